package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// This file is what it takes to resume etcd's watch, with several watches on one stream.

// progress is how far each watch has got, by its id. It is the token of a position.
type progress map[int64]standing

// standing is where a watch goes on: at revision Next. Where history before a revision Gone was lost, the application has
// still to be told.
type standing struct{ Next, Gone int64 }

// resume creates the watches where they stopped, and waits until they are there: what happens from then on is seen
// (invariant 1). It creates one after the other: etcd stops reading requests while nobody takes its answers.
func (w *watchSet) resume(_ context.Context, r *stream.Resumption[pb.WatchRequest, pb.WatchResponse]) (err error) {
	if w.at, err = parseProgress(cmp.Or(r.Position().Token, "{}")); err != nil {
		return err
	}
	wanted := w.current()
	maps.DeleteFunc(w.at, func(id int64, _ standing) bool { return wanted[id] == nil })
	for id, c := range wanted {
		if err := r.Send(createRequest(c, w.at[id].Next)); err != nil {
			return err
		}
		for created := false; !created; {
			m, err := r.Recv()
			if err != nil {
				return err
			}
			if created = m.GetCreated(); created {
				m.WatchId = id                    // etcd says -1 where it refuses one
				m.CompactRevision = w.at[id].Gone // which the application sees in its place
			}
			r.Deliver(m)
		}
	}
	return nil
}

// checkpoint tells how far m takes the watches. That is not between the parts of one response (invariant 5).
func (w *watchSet) checkpoint(m *pb.WatchResponse) (checkpoint.Position, bool) {
	id, after := m.GetWatchId(), m.GetHeader().GetRevision()+1
	switch events := m.GetEvents(); {
	case m.GetCanceled():
		w.remove(id)
		delete(w.at, id)
	case m.GetCreated():
		w.at[id] = standing{Next: cmp.Or(w.at[id].Next, w.current()[id].GetStartRevision(), after)}
	case len(events) > 0:
		w.at[id] = standing{Next: events[len(events)-1].GetKv().GetModRevision() + 1}
	default: // progress, in order with events (invariant 6), of one watch or of all
		for watch, at := range w.at {
			if watch == id || id == everyWatch {
				w.at[watch] = standing{Next: max(at.Next, after)}
			}
		}
	}
	return w.at.position(strconv.FormatUint(m.GetHeader().GetClusterId(), 16)), !m.GetFragment()
}

// compactedError says that a watch needs history that is gone: the position is lost (invariant 16).
type compactedError struct{ watch, before int64 }

func (e *compactedError) Error() string {
	return fmt.Sprintf("watch %d: the history before revision %d is gone", e.watch, e.before)
}

func (e *compactedError) Is(target error) bool { return target == stream.ErrPositionLost }

// failure returns the error that m tells of.
func failure(m *pb.WatchResponse) error {
	if m.GetCanceled() && !m.GetCreated() && m.GetCompactRevision() > 0 {
		return &compactedError{watch: m.GetWatchId(), before: m.GetCompactRevision()}
	}
	return nil
}

// lost moves the watches that need what is gone to the oldest revision that is there. The history of another cluster
// (invariant 17) has no such place.
func lost(_ context.Context, at checkpoint.Position, cause error) (stream.Recovery, error) {
	gone, compacted := errors.AsType[*compactedError](cause)
	p, err := parseProgress(at.Token)
	if !compacted || err != nil {
		return stream.Recovery{}, err
	}
	for id, at := range p {
		if at.Next < gone.before {
			p[id] = standing{Next: gone.before, Gone: gone.before}
		}
	}
	return stream.RestartFrom(p.position(at.Lineage)), nil
}

// position is a place in the history of a cluster. It has no Seq: one number cannot say how far several watches have got.
func (p progress) position(cluster string) checkpoint.Position {
	token, _ := json.Marshal(p) // numbers: it cannot fail
	return checkpoint.Position{Lineage: cluster, Token: string(token)}
}

func parseProgress(token string) (p progress, err error) {
	if err = json.Unmarshal([]byte(token), &p); err != nil || p == nil {
		return nil, fmt.Errorf("the position %q is not one of watches", token)
	}
	return p, nil
}
