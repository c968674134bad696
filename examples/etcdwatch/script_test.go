package main

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/streamsafe/streamsafe/stream"
)

// A server of watches that follows a script, and what tests do with it.

const (
	orders int64 = 1 // watches
	stock  int64 = 2
)

// errGone is what a member says that goes away.
var errGone = status.Error(codes.Unavailable, "going away")

// script is a server of watches.
type script struct {
	pb.UnimplementedWatchServer

	handlers []func(*attempt) error

	mu       sync.Mutex // guards the field below
	attempts []*attempt
}

// attempt is one stream, as the server sees it.
type attempt struct {
	pb.Watch_WatchServer

	cluster uint64
	starts  map[int64]int64 // revision that a watch was asked to begin at, by watch
}

func (s *script) Watch(server pb.Watch_WatchServer) error {
	a := &attempt{Watch_WatchServer: server, cluster: 1, starts: make(map[int64]int64)}
	s.mu.Lock()
	handler := s.handlers[min(len(s.attempts), len(s.handlers)-1)]
	s.attempts = append(s.attempts, a)
	s.mu.Unlock()
	return handler(a)
}

// starts returns where each watch was to begin on an attempt, from 1.
func (s *script) starts(attempt int) map[int64]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts[attempt-1].starts
}

// creates creates n watches at the present revision.
func (a *attempt) creates(n int, revision int64) error {
	for range n {
		m, err := a.Recv()
		if err != nil {
			return err
		}
		c := m.GetCreateRequest()
		a.starts[c.GetWatchId()] = c.GetStartRevision()
		if err := a.tells(&pb.WatchResponse{WatchId: c.GetWatchId(), Created: true}, revision); err != nil {
			return err
		}
	}
	return nil
}

func (a *attempt) tells(m *pb.WatchResponse, revision int64) error {
	m.Header = &pb.ResponseHeader{ClusterId: a.cluster, Revision: revision}
	return a.Send(m)
}

// changes sends changes to a watch, made at these revisions. more says that this is a part of a response.
func (a *attempt) changes(watch int64, more bool, revisions ...int64) error {
	m := &pb.WatchResponse{WatchId: watch, Fragment: more}
	for _, r := range revisions {
		m.Events = append(m.Events, &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("key"), ModRevision: r}})
	}
	return a.tells(m, 1000) // what is newer than the events has still to come
}

// stays creates n watches, does something, and stays until the end of the stream.
func stays(n int, revision int64, do ...func(*attempt) error) func(*attempt) error {
	return func(a *attempt) error {
		if err := a.creates(n, revision); err != nil {
			return err
		}
		for _, f := range do {
			if err := f(a); err != nil {
				return err
			}
		}
		<-a.Context().Done()
		return nil
	}
}

func goesAway(*attempt) error { return errGone }

func changes(watch int64, more bool, revisions ...int64) func(*attempt) error {
	return func(a *attempt) error { return a.changes(watch, more, revisions...) }
}

// progressTo tells that a watch is there, and has nothing to tell.
func progressTo(watch, revision int64) func(*attempt) error {
	return func(a *attempt) error { return a.tells(&pb.WatchResponse{WatchId: watch}, revision) }
}

func compacts(watch, before int64) func(*attempt) error {
	return func(a *attempt) error {
		return a.tells(&pb.WatchResponse{WatchId: watch, Canceled: true, CompactRevision: before}, 1000)
	}
}

// serve starts a server, and returns a connection to it.
func serve(t *testing.T, handlers ...func(*attempt) error) (*script, *grpc.ClientConn) {
	t.Helper()
	s := &script{handlers: handlers}
	server := grpc.NewServer()
	pb.RegisterWatchServer(server, s)
	listener := bufconn.Listen(1 << 16)
	go func() { _ = server.Serve(listener) }() // ends with the server, which the cleanup stops
	conn, err := grpc.NewClient("passthrough:///script", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
	})
	return s, conn
}

// both are requests for the two watches.
func both() []*pb.WatchCreateRequest {
	return []*pb.WatchCreateRequest{{WatchId: orders, Key: []byte("orders")}, {WatchId: stock, Key: []byte("stock")}}
}

// open opens a stream of watches.
func open(t *testing.T, conn *grpc.ClientConn, w *watchSet, opts ...stream.ClientOption) *watchStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	s, err := openWatches(ctx, conn, w, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// nextChange returns the next message with events: the watch, and the revision of the first and the last.
func nextChange(t *testing.T, s *watchStream) (watch, first, last int64) {
	t.Helper()
	for {
		m := next(t, s)
		if events := m.GetEvents(); len(events) > 0 {
			return m.GetWatchId(), events[0].GetKv().GetModRevision(), events[len(events)-1].GetKv().GetModRevision()
		}
	}
}

func next(t *testing.T, s *watchStream) *pb.WatchResponse {
	t.Helper()
	m, err := s.Recv()
	require.NoError(t, err)
	return m
}
