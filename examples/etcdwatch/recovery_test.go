package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// A watcher is behind by the longest time that it took to see what was confirmed after a fault, in all watches.
func TestRecoveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j, specs := &journal{}, []spec{{id: 1}, {id: 2}}
		begin := time.Now()
		after := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
		see := func(second int, watch, revision int64) {
			time.Sleep(time.Until(after(second)))
			j.saw(watch, []*mvccpb.Event{put(revision, "/a")})
		}
		m := &marks{specs: specs, all: []mark{
			{10, after(0)}, // before the first fault
			{11, after(2)}, {12, after(3)}, {13, after(9)}, {14, after(11)}, {15, after(13)},
		}}
		see(2, 1, 11)
		see(3, 2, 11)
		see(4, 1, 12)
		assert.True(t, j.hasReached(specs, 11))
		assert.False(t, j.hasReached(specs, 12))
		see(8, 2, 14) // newer than 12 and 13, which were compacted
		see(12, 1, 14)

		got := recoveries(j, m, []time.Time{after(1), after(10), after(12), after(15)}, after(20))
		assert.Equal(t, []time.Duration{5 * time.Second, time.Second, never, 0}, got)
	})
}

func TestLasted(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "1.235s", lasted(1_234_567*time.Microsecond))
	assert.Equal(t, "never", lasted(never))
}

func TestMedian(t *testing.T) {
	t.Parallel()
	assert.Zero(t, median(nil))
	assert.Equal(t, time.Duration(2), median([]time.Duration{3, 1, 2}))
	assert.Equal(t, time.Duration(3), median([]time.Duration{3, 1, 4, 2}))
}

func TestThatTouched(t *testing.T) {
	t.Parallel()
	all := []time.Duration{time.Second, 0, touched, touched - 1, never}
	assert.Equal(t, []time.Duration{time.Second, touched, never}, thatTouched(all))
	assert.Len(t, all, 5)
}
