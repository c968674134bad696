package main

import (
	"cmp"
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// clientLines is the length of watch.go of go.etcd.io/etcd/client/v3, counted like resume.go. A test sees that it is true.
const clientLines = 774

// etcdClient is the watcher that is built on the watch of etcd's own client, which resumes by itself. Where a member has no
// leader, or history is gone, it closes the channel, and the application watches again.
func etcdClient(ctx context.Context, endpoints []string, specs []spec, j *journal) error {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: silence, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(connectParams())},
	})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // the watches have ended
	ctx = clientv3.WithRequireLeader(ctx)
	var watching sync.WaitGroup
	for _, s := range specs { // they share one stream
		watching.Go(func() { follow(ctx, client, s, j) }) // ends with ctx; the line below waits for it
	}
	watching.Wait()
	return ctx.Err()
}

// follow keeps one watch until ctx is done.
func follow(ctx context.Context, client *clientv3.Client, s spec, j *journal) {
	next := int64(0)
	for ctx.Err() == nil {
		watch := client.Watch(ctx, s.key, clientv3.WithRange(s.end), clientv3.WithRev(next), clientv3.WithFragment(),
			clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
		for m := range watch {
			switch {
			case m.CompactRevision > 0:
				j.compacted(s.id, m.CompactRevision-1)
				next = m.CompactRevision
			case m.Created:
				j.began(s.id, m.Header.Revision)
				next = cmp.Or(next, m.Header.Revision+1)
			case len(m.Events) > 0:
				j.saw(s.id, m.Events)
				next = m.Events[len(m.Events)-1].Kv.ModRevision + 1
			case m.IsProgressNotify():
				next = m.Header.Revision + 1
			}
		}
		_ = pause(ctx, maxBackoff/10) // the loop asks ctx
	}
}
