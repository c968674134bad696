package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// These tests put resume.go before a server that follows a script, one handler for each attempt.

// Invariant 1: a watch is anchored when it is created, not by the first event.
func TestAnchoredBeforeTheFirstEvent(t *testing.T) {
	t.Parallel()
	server, conn := serve(t, stays(2, 7, goesAway), stays(2, 20, changes(stock, false, 9)))
	s := open(t, conn, newWatchSet(both()...))
	watch, first, _ := nextChange(t, s)
	require.Equal(t, []int64{stock, 9}, []int64{watch, first})
	require.Equal(t, map[int64]int64{orders: 0, stock: 0}, server.starts(1))
	require.Equal(t, map[int64]int64{orders: 8, stock: 8}, server.starts(2))
}

// A watch that is to begin in the past does, on whatever attempt.
func TestBeginsInThePast(t *testing.T) {
	t.Parallel()
	server, conn := serve(t, stays(2, 7, goesAway), stays(2, 20, changes(orders, false, 3)))
	creates := both()
	creates[0].StartRevision = 3
	nextChange(t, open(t, conn, newWatchSet(creates...)))
	require.Equal(t, map[int64]int64{orders: 3, stock: 0}, server.starts(1))
	require.Equal(t, map[int64]int64{orders: 3, stock: 8}, server.starts(2))
}

// A watch that a stored position does not know begins where it is asked to, on whatever attempt.
func TestBeginsInThePastBesideAStoredPosition(t *testing.T) {
	t.Parallel()
	server, conn := serve(t, stays(2, 100, goesAway), stays(2, 100, changes(stock, false, 3)))
	creates := both()
	creates[1].StartRevision = 3
	nextChange(t, open(t, conn, newWatchSet(creates...), stored(t, progress{orders: {Next: 50}}.position("1"))))
	require.Equal(t, map[int64]int64{orders: 50, stock: 3}, server.starts(1))
	require.Equal(t, map[int64]int64{orders: 50, stock: 3}, server.starts(2))
}

// stored is a store that has a position.
func stored(t *testing.T, at checkpoint.Position) stream.ClientOption {
	t.Helper()
	var store checkpoint.Memory
	record, err := store.Acquire(t.Context(), "watches")
	require.NoError(t, err)
	require.NoError(t, store.Commit(t.Context(), "watches", record.Epoch, at))
	return stream.WithStore(&store, "watches")
}

// A server that does not read while nobody takes its answers is not waited for by one that sends and does not receive.
func TestManyWatches(t *testing.T) {
	t.Parallel()
	const many = 300
	long := strings.Repeat("x", 4000)
	server, conn := serve(t, func(a *attempt) error {
		for {
			m, err := a.Recv()
			if err != nil {
				return err
			}
			id := m.GetCreateRequest().GetWatchId()
			if err := a.tells(&pb.WatchResponse{WatchId: id, Created: true, CancelReason: long}, 7); err != nil {
				return err
			}
		}
	})
	creates := make([]*pb.WatchCreateRequest, 0, many)
	for i := range many {
		creates = append(creates, &pb.WatchCreateRequest{WatchId: int64(i + 1), Key: []byte(long)})
	}
	open(t, conn, newWatchSet(creates...), stream.WithOpenTimeout(15*time.Second))
	require.Len(t, server.attempts, 1)
}

// A response may be far larger than what grpc takes by default: etcd does not always send it in fragments.
func TestLargeResponse(t *testing.T) {
	t.Parallel()
	_, conn := serve(t, stays(2, 7, func(a *attempt) error {
		m := &pb.WatchResponse{WatchId: orders}
		for r := int64(8); r < 14; r++ {
			m.Events = append(m.Events, &mvccpb.Event{Kv: &mvccpb.KeyValue{ModRevision: r, Value: make([]byte, 1<<20)}})
		}
		return a.tells(m, 1000)
	}))
	_, first, last := nextChange(t, open(t, conn, newWatchSet(both()...)))
	require.Equal(t, []int64{8, 13}, []int64{first, last})
}

// Invariant 22: where nothing happens, also after a break, the heartbeat is answered. A real server has to show it.
func TestQuietCluster(t *testing.T) {
	t.Parallel()
	c, client := newCluster(t)
	commit(t, client, clientv3.OpPut("/orders/1", "1"))
	conn, err := dial(c.endpoints())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	s := open(t, conn, newWatchSet(requests(watches())...))
	ended := make(chan struct{})
	go func() { // ends with the stream; the end of the test waits for it
		defer close(ended)
		sendRequests(s, nil)
	}()
	var received sync.WaitGroup
	received.Go(func() { // ends with the stream; the end of the test waits for it
		for {
			m, err := s.Recv()
			if err != nil {
				return
			}
			assert.True(t, m.GetCreated(), "nothing happens: %v", m)
		}
	})
	for _, proxy := range c.proxies {
		proxy.Cut(testnet.RST)
	}
	require.True(t, await(t.Context(), 10*time.Second, func() bool { return s.Stats().Attempts > 1 && s.State() == stream.Attached }))
	after := s.Stats().Attempts
	require.NoError(t, pause(t.Context(), 2*silence+heartbeat))
	assert.Equal(t, after, s.Stats().Attempts, "an attempt was given up: %v", s.Stats().LastError)
	require.NoError(t, s.Close())
	received.Wait()
	<-ended
}

// The application beside etcd's own client goes on where it stopped, also where the watch is closed again before it has
// brought anything.
func TestClientWatchesAgainFromWhereItStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	specs, j := []spec{{id: 1, key: "key", end: "kez"}}, &journal{}
	noLeader := func(*attempt) error { return rpctypes.ErrGRPCNoLeader }
	seen := func(*attempt) error {
		await(ctx, 20*time.Second, func() bool { return j.hasReached(specs, 8) })
		return nil
	}
	s := &script{handlers: []func(*attempt) error{
		stays(1, 7, changes(0, false, 8), seen, noLeader), stays(1, 20, noLeader),
		func(a *attempt) error {
			defer cancel()
			return a.creates(1, 20)
		},
	}}
	server := grpc.NewServer()
	pb.RegisterWatchServer(server, s)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(listener) }() // ends with the server, which the cleanup stops
	t.Cleanup(server.Stop)
	err = etcdClient(ctx, []string{listener.Addr().String()}, specs, j)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, map[int64]int64{0: 9}, s.starts(2))
	require.Equal(t, map[int64]int64{0: 9}, s.starts(3))
}

// Invariant 5: a break between the parts of one response takes back all of it. Each part is handed over once.
func TestFragments(t *testing.T) {
	t.Parallel()
	server, conn := serve(t,
		stays(2, 7, changes(orders, false, 8), changes(orders, true, 9, 10), goesAway),
		stays(2, 20, changes(orders, true, 9, 10), changes(orders, false, 10, 11), changes(stock, false, 12)))
	s := open(t, conn, newWatchSet(both()...))
	got := make([][]int64, 0, 4)
	for range cap(got) {
		watch, first, last := nextChange(t, s)
		got = append(got, []int64{watch, first, last})
	}
	require.Equal(t, [][]int64{{orders, 8, 8}, {orders, 9, 10}, {orders, 10, 11}, {stock, 12, 12}}, got)
	require.Equal(t, map[int64]int64{orders: 9, stock: 8}, server.starts(2))
}

// Invariant 6: progress moves the position in its order with events, of one watch or of all, and never back. It is no
// message for the application.
func TestProgress(t *testing.T) {
	t.Parallel()
	server, conn := serve(t,
		stays(2, 7, changes(orders, false, 8), progressTo(stock, 20), goesAway),
		stays(2, 20, progressTo(everyWatch, 30), changes(orders, false, 31), goesAway),
		stays(2, 40, progressTo(everyWatch, 25), goesAway), // of a member that lags
		stays(2, 40, changes(stock, false, 41)))
	s := open(t, conn, newWatchSet(both()...))
	for _, want := range [][]int64{{orders, 8}, {orders, 31}, {stock, 41}} {
		m := next(t, s)
		for m.GetCreated() {
			m = next(t, s)
		}
		require.Equal(t, want, []int64{m.GetWatchId(), m.GetEvents()[0].GetKv().GetModRevision()})
	}
	require.Equal(t, map[int64]int64{orders: 9, stock: 21}, server.starts(2))
	require.Equal(t, map[int64]int64{orders: 32, stock: 31}, server.starts(3))
	require.Equal(t, map[int64]int64{orders: 32, stock: 31}, server.starts(4))
}

// Invariant 16: where history is gone, the watches that need it go on where there is some again, and the others where they
// were. The application is told once, in its place, whatever breaks in the meantime.
func TestCompaction(t *testing.T) {
	t.Parallel()
	server, conn := serve(t,
		stays(2, 7, changes(orders, false, 8), changes(stock, false, 60), compacts(orders, 50)),
		goesAway,
		stays(1, 100, goesAway), // the second watch is not there yet
		stays(2, 100, goesAway), // the application has been told, and nothing has happened since
		stays(2, 100, changes(orders, false, 51), goesAway),
		stays(2, 100, changes(orders, false, 52)))
	s := open(t, conn, newWatchSet(both()...))
	var told [][]int64 // watch and revision
	for {
		m := next(t, s)
		require.False(t, m.GetCanceled())
		if before := m.GetCompactRevision(); before > 0 {
			told = append(told, []int64{m.GetWatchId(), before})
		}
		for _, e := range m.GetEvents() {
			told = append(told, []int64{m.GetWatchId(), e.GetKv().GetModRevision()})
		}
		if len(told) == 5 {
			break
		}
	}
	require.Equal(t, [][]int64{{orders, 8}, {stock, 60}, {orders, 50}, {orders, 51}, {orders, 52}}, told)
	require.Equal(t, map[int64]int64{orders: 50, stock: 61}, server.starts(5))
	require.Equal(t, map[int64]int64{orders: 52, stock: 61}, server.starts(6))
	refused := &pb.WatchResponse{Created: true, Canceled: true, CompactRevision: 50}
	require.NoError(t, failure(refused), "a watch that cannot be made again is not compacted again and again")
}

// Invariant 17: the revisions of another cluster mean nothing.
func TestAnotherCluster(t *testing.T) {
	t.Parallel()
	_, conn := serve(t, stays(2, 7, goesAway), func(a *attempt) error {
		a.cluster = 2
		return stays(2, 3, changes(orders, false, 9))(a)
	})
	s := open(t, conn, newWatchSet(both()...))
	var err error
	for err == nil {
		var m *pb.WatchResponse
		m, err = s.Recv()
		require.Empty(t, m.GetEvents())
	}
	var failure *stream.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, stream.ReasonPositionLost, failure.Reason)
}

// A cancelled watch does not come back, whether the server has heard of it or not.
func TestCancelledWatch(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(*attempt) error{
		"by request": func(a *attempt) error {
			m, err := a.Recv()
			if err != nil {
				return err
			}
			return a.tells(&pb.WatchResponse{WatchId: m.GetCancelRequest().GetWatchId(), Canceled: true}, 8)
		},
		"before the server hears of it": func(a *attempt) error {
			_, err := a.Recv()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, conn := serve(t, stays(2, 7, answer, goesAway), stays(1, 20, changes(stock, false, 9)))
			w := newWatchSet(both()...)
			s := open(t, conn, w)
			w.remove(orders)
			require.NoError(t, s.Send(cancelRequest(orders)))
			nextChange(t, s)
			require.Equal(t, map[int64]int64{stock: 8}, server.starts(2))
			left, err := parseProgress(s.Stats().Delivered.Token)
			require.NoError(t, err)
			require.Equal(t, progress{stock: {Next: 10}}, left)
		})
	}
}

// A watch that is cancelled leaves the position at once: a new process would go on with it.
func TestCancelledWatchLeavesThePosition(t *testing.T) {
	t.Parallel()
	_, conn := serve(t, stays(2, 7, func(a *attempt) error {
		return a.tells(&pb.WatchResponse{WatchId: orders, Canceled: true}, 8)
	}, changes(stock, false, 9)))
	s := open(t, conn, newWatchSet(both()...))
	nextChange(t, s)
	left, err := parseProgress(s.Stats().Delivered.Token)
	require.NoError(t, err)
	require.Equal(t, progress{stock: {Next: 10}}, left)
}

// A watch that etcd refuses is told with its number, and not asked for again.
func TestRefusedWatch(t *testing.T) {
	t.Parallel()
	server, conn := serve(t, func(a *attempt) error {
		m, err := a.Recv()
		if err != nil {
			return err
		}
		refused := &pb.WatchResponse{WatchId: everyWatch, Created: true, Canceled: true, CancelReason: "permission denied"}
		if m.GetCreateRequest().GetWatchId() == stock { // they come in any order
			if err := a.tells(&pb.WatchResponse{WatchId: stock, Created: true}, 7); err != nil {
				return err
			}
			if _, err := a.Recv(); err != nil {
				return err
			}
			if err := a.tells(refused, 7); err != nil {
				return err
			}
			return errGone
		}
		if err := a.tells(refused, 7); err != nil {
			return err
		}
		if err := a.creates(1, 7); err != nil {
			return err
		}
		return errGone
	}, stays(1, 20, changes(stock, false, 9)))
	s := open(t, conn, newWatchSet(both()...))
	var refused []int64
	for {
		m := next(t, s)
		if m.GetCanceled() {
			refused = append(refused, m.GetWatchId())
		}
		if len(m.GetEvents()) > 0 {
			break
		}
	}
	require.Equal(t, []int64{orders}, refused)
	require.Equal(t, map[int64]int64{stock: 8}, server.starts(2))
}

// A new process goes on where the old one stopped.
func TestStoredPosition(t *testing.T) {
	t.Parallel()
	server, conn := serve(t, stays(2, 7, changes(orders, false, 8, 9), changes(orders, false, 10)), stays(2, 20, changes(orders, false, 10)))
	var store checkpoint.Memory
	first := open(t, conn, newWatchSet(both()...), stream.WithStore(&store, "watches"))
	_, _, last := nextChange(t, first)
	require.Equal(t, int64(9), last)
	require.NoError(t, first.Commit(t.Context()))
	require.NoError(t, first.Close())

	second := open(t, conn, newWatchSet(both()...), stream.WithStore(&store, "watches"))
	_, from, _ := nextChange(t, second)
	require.Equal(t, int64(10), from)
	require.Equal(t, map[int64]int64{orders: 10, stock: 8}, server.starts(2))
}

// A token that is not ours is refused, and named.
func TestForeignPosition(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"page 3", "null", `{"1": 2}`, "[]"} {
		_, conn := serve(t, stays(2, 7))
		_, err := openWatches(t.Context(), conn, newWatchSet(both()...), stored(t, checkpoint.Position{Token: token}))
		require.ErrorContains(t, err, strconv.Quote(token)+" is not one of watches")
	}
}

// The figures of the table are true.
func TestLinesOfResumeCode(t *testing.T) {
	t.Parallel()
	require.LessOrEqual(t, codeLines(resumeCode), 80)
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "go.etcd.io/etcd/client/v3").Output()
	require.NoError(t, err)
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "watch.go"))
	require.NoError(t, err)
	require.Equal(t, clientLines, codeLines(string(source)))
	require.Equal(t, 2, codeLines("// one\npackage x\n\nimport (\n\t\"y\"\n)\n\nvar a = 1 // two\n\n\t// three\nvar b = 2\n"))
}
