package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// put is the event of a put, with a value that nobody else has.
func put(revision int64, key string) *mvccpb.Event {
	return &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: &mvccpb.KeyValue{
		Key: []byte(key), ModRevision: revision, CreateRevision: 1, Version: revision, Value: []byte(key + "'s"),
	}}
}

func deletion(revision int64, key string) *mvccpb.Event {
	return &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: revision}}
}

// changed returns a put whose value is another one.
func changed(e *mvccpb.Event) *mvccpb.Event {
	return &mvccpb.Event{Type: e.GetType(), Kv: &mvccpb.KeyValue{
		Key: e.GetKv().GetKey(), ModRevision: e.GetKv().GetModRevision(), CreateRevision: 1,
		Version: e.GetKv().GetVersion(), Value: []byte(strings.ToUpper(string(e.GetKv().GetValue()))),
	}}
}

// What is wrong with a journal is found, and nothing else.
func TestCompare(t *testing.T) {
	t.Parallel()
	specs := []spec{{id: 1, key: "/a/", end: "/a0"}, {id: 2, key: "/a/2", end: "/b0"}}
	events := []*mvccpb.Event{ // /a/1 is in the first watch, /a/2 in both, /b/1 in the second, /c in none
		put(1, "/a/1"), put(2, "/a/1"), put(3, "/a/1"), put(3, "/a/2"), put(3, "/b/1"), put(4, "/c"), deletion(5, "/a/1"),
		put(6, "/a/2"), put(7, "/a/1"),
	}
	const end, compacted = 7, 5
	truth := &history{revision: end}
	for _, e := range events {
		truth.changes = append(truth.changes, changeOf(e))
	}
	first := []*mvccpb.Event{events[1], events[2], events[3], events[6], events[7], events[8]} // after revision 1
	second := []*mvccpb.Event{events[3], events[4], events[7]}
	all := verdict{events: 9}

	for name, test := range map[string]struct {
		first []*mvccpb.Event
		want  verdict
	}{
		"right":              {first, all},
		"keys in any order":  {[]*mvccpb.Event{events[1], events[3], events[2], events[6], events[7], events[8]}, all},
		"nothing":            {nil, verdict{events: 3, lost: 6}},
		"first missing":      {first[1:], verdict{events: 8, lost: 1}},
		"last missing":       {first[:5], verdict{events: 8, lost: 1}},
		"half a revision":    {slices.Concat(first[:2], first[3:]), verdict{events: 8, lost: 1}},
		"deletion missing":   {slices.Concat(first[:3], first[4:]), verdict{events: 8, lost: 1}},
		"twice":              {slices.Concat(first[:2], first[1:]), verdict{events: 10, duplicated: 1}},
		"twice, later":       {slices.Concat(first, first[:2]), verdict{events: 11, duplicated: 2}},
		"swapped":            {slices.Concat(first[:4], first[5:], first[4:5]), verdict{events: 9, reordered: 1}},
		"another value":      {slices.Concat(first[:4], []*mvccpb.Event{changed(first[4])}, first[5:]), verdict{events: 9, lost: 1, unknown: 1}},
		"deleted, not put":   {slices.Concat(first[:5], []*mvccpb.Event{deletion(7, "/a/1")}), verdict{events: 9, lost: 1, unknown: 1}},
		"put, not deleted":   {slices.Concat(first[:3], []*mvccpb.Event{put(5, "/a/1")}, first[4:]), verdict{events: 9, lost: 1, unknown: 1}},
		"before it began":    {slices.Concat(events[:1], first), verdict{events: 10, unknown: 1}},
		"of another watch":   {slices.Concat(first[:3], events[4:5], first[3:]), verdict{events: 10, unknown: 1}},
		"that never was":     {slices.Concat(first[:3], []*mvccpb.Event{put(4, "/a/1")}, first[3:]), verdict{events: 10, unknown: 1}},
		"after the last one": {slices.Concat(first, []*mvccpb.Event{put(8, "/a/1")}), all},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := &journal{}
			j.began(1, 1)
			j.began(2, 2)
			for _, e := range test.first {
				j.saw(1, []*mvccpb.Event{e})
			}
			j.saw(2, second)
			j.began(1, 6) // a later one changes nothing
			got := compare(truth, compacted, specs, j)
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.want == all, got.ok())
		})
	}
}

// A compaction excuses what was not seen before the watcher was told, up to the revision that was told, if it was true.
func TestCompareExcusesWhatIsGone(t *testing.T) {
	t.Parallel()
	specs := []spec{{id: 1, key: "/", end: "0"}}
	truth := &history{revision: 6}
	var events []*mvccpb.Event
	for revision := int64(1); revision <= 6; revision++ {
		events = append(events, put(revision, "/a"))
		truth.changes = append(truth.changes, changeOf(events[revision-1]))
	}
	for name, test := range map[string]struct {
		before    []*mvccpb.Event
		told      int64
		after     []*mvccpb.Event
		compacted int64
		want      verdict
	}{
		"all of it":         {events[:2], 4, events[4:], 4, verdict{events: 4, gaps: 1}},
		"seen nevertheless": {events[:2], 4, events[3:], 4, verdict{events: 5, gaps: 1}},
		"too much":          {events[:2], 4, events[5:], 4, verdict{events: 3, gaps: 1, lost: 1}},
		"lost before":       {events[1:2], 4, events[4:], 4, verdict{events: 3, gaps: 1, lost: 1}},
		"not true":          {events[:2], 4, events[4:], 3, verdict{events: 4, gaps: 1, lost: 1}},
		"none at all":       {events[:2], 4, events[4:], 0, verdict{events: 4, gaps: 1, lost: 2}},
		"from the start":    {nil, 4, events[4:], 4, verdict{events: 2, gaps: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := &journal{}
			j.began(1, 0)
			j.saw(1, test.before)
			j.compacted(1, test.told)
			j.saw(1, test.after)
			assert.Equal(t, test.want, compare(truth, test.compacted, specs, j))
		})
	}
}

// A watch that never began is no excuse.
func TestCompareWithoutBeginning(t *testing.T) {
	t.Parallel()
	truth := &history{revision: 1, changes: []change{changeOf(put(1, "/a"))}}
	assert.Equal(t, verdict{lost: 1}, compare(truth, 0, []spec{{id: 1, key: "/", end: "0"}}, &journal{}))
}
