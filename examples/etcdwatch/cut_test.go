package main

import (
	"context"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// changing has one change for each revision from 8 to 15, two for each watch in turn, and one more at revision 12, whose response
// comes in two parts.
type changing struct {
	pb.UnimplementedWatchServer
}

const firstChange, lastChange = 8, 15

func (changing) Watch(server pb.Watch_WatchServer) error {
	a := &attempt{Watch_WatchServer: server, cluster: 1, starts: make(map[int64]int64)}
	if err := a.creates(2, firstChange-1); err != nil {
		return err
	}
	for revision := int64(firstChange); revision <= lastChange; revision++ {
		watch := orders + revision/2%2
		if revision < a.starts[watch] {
			continue
		}
		if revision == 12 {
			if err := a.changes(watch, true, revision); err != nil {
				return err
			}
		}
		if err := a.changes(watch, false, revision); err != nil {
			return err
		}
	}
	<-a.Context().Done()
	return nil
}

// Each watch sees each of its changes once, in order, wherever the stream is cut.
func TestWatchSurvives(t *testing.T) {
	t.Parallel()
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: func(s *grpc.Server) { pb.RegisterWatchServer(s, changing{}) },
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			s, err := openWatches(ctx, cc, newWatchSet(both()...))
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }()
			got := make(map[int64][]int64) // revisions, by watch
			for n := 0; n < lastChange-firstChange+2; {
				m, err := s.Recv()
				if err != nil {
					return err
				}
				for _, e := range m.GetEvents() {
					got[m.GetWatchId()] = append(got[m.GetWatchId()], e.GetKv().GetModRevision())
					n++
				}
			}
			return errors.Join(
				streamtest.Same([]int64{8, 9, 12, 12, 13}, got[orders]),
				streamtest.Same([]int64{10, 11, 14, 15}, got[stock]))
		},
	})
}
