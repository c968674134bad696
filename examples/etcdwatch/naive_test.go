package main

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// naive returns a watcher as one writes it first: after a break it asks the next member to watch again. Where it does not
// say from where, it misses what happened in between. Where it says from the revision that it saw last, it sees that
// twice.
func naive(from func(seen int64) (start int64)) watcher {
	return func(ctx context.Context, endpoints []string, specs []spec, j *journal) error {
		seen := make(map[int64]int64) // revision, by watch
		for i := 0; ; i++ {
			if err := watchOnce(ctx, endpoints[i%len(endpoints)], specs, j, from, seen); err != nil {
				return err
			}
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
}

// watchOnce watches until the stream breaks.
func watchOnce(ctx context.Context, endpoint string, specs []spec, j *journal, from func(int64) int64, seen map[int64]int64) error {
	conn, err := grpc.NewClient("passthrough:///"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it may be dead
	stream, err := etcdserverpb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		return nil // the next member may do
	}
	for _, s := range specs {
		request := &etcdserverpb.WatchCreateRequest{
			Key: []byte(s.key), RangeEnd: []byte(s.end), WatchId: s.id, StartRevision: from(seen[s.id]), ProgressNotify: true,
		}
		err := stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: request}})
		if err != nil {
			break // Recv tells
		}
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil // the next member may do
		}
		id := m.GetWatchId()
		switch {
		case m.GetCreated():
			j.began(id, m.GetHeader().GetRevision())
			if seen[id] == 0 {
				seen[id] = m.GetHeader().GetRevision()
			}
		case m.GetCompactRevision() > 0:
			j.compacted(id, m.GetCompactRevision()-1)
			seen[id] = m.GetCompactRevision()
			return nil
		case m.GetCanceled():
			return nil
		default:
			j.saw(id, m.GetEvents())
			for _, e := range m.GetEvents() {
				seen[id] = e.GetKv().GetModRevision()
			}
		}
	}
}

// fromNow is for a naive watcher that loses.
func fromNow(int64) int64 { return 0 }

// fromLast is for one that doubles.
func fromLast(seen int64) int64 { return seen }
