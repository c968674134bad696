package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// connections is how many the clients share.
const connections = 4

// result is what came of one flood.
type result struct {
	name    string
	calls   int
	good    []time.Duration // durations of the calls answered in time
	refused uint64          // tries, at the door
	done    int64           // calls that a worker has done
	inVain  int64           // those of them that nobody waited for
}

// flood offers calls at a constant rate, whatever becomes of those before, and waits for all of them.
func flood(ctx context.Context, s settings, how side) (result, error) {
	accountant, err := door(s)
	if err != nil {
		return result{}, err
	}
	var options []grpc.ServerOption
	if how.tap {
		options = accountant.ServerOptions()
	}
	server, address, stop, err := serve(ctx, s, options...)
	if err != nil {
		return result{}, err
	}
	defer stop()
	interceptor := bare(s.try, s.retries)
	if how.safe {
		interceptor = safe(s)
	}
	clients, hangUp, err := dial(address, interceptor)
	if err != nil {
		return result{}, err
	}
	defer hangUp()

	r := offer(ctx, s, clients)
	r.name, r.done, r.inVain = how.name, server.done.Load(), server.inVain.Load()
	for _, n := range accountant.Stats().Refused {
		r.refused += n
	}
	return r, ctx.Err()
}

func dial(address string, interceptor grpc.UnaryClientInterceptor) (clients []testpb.TestServiceClient, hangUp func(), err error) {
	var conns []*grpc.ClientConn
	hangUp = func() {
		for _, conn := range conns {
			_ = conn.Close() // only ever that it is closed
		}
	}
	for range connections {
		conn, dialErr := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithUnaryInterceptor(interceptor))
		if dialErr != nil {
			err = errors.Join(err, dialErr)
			continue
		}
		conns = append(conns, conn)
		clients = append(clients, testpb.NewTestServiceClient(conn))
	}
	if err != nil {
		hangUp()
	}
	return clients, hangUp, err
}

// offer makes the calls.
func offer(ctx context.Context, s settings, clients []testpb.TestServiceClient) (r result) {
	var mu sync.Mutex // guards r.good
	var calls sync.WaitGroup
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ctx.Err() == nil; {
		elapsed := min(time.Since(began), s.duration)
		for due := int(elapsed.Seconds() * float64(s.rate)); r.calls < due; r.calls++ {
			client := clients[r.calls%len(clients)]
			calls.Go(func() {
				start := time.Now()
				ctx, cancel := context.WithTimeout(ctx, s.patience)
				defer cancel()
				if _, err := client.UnaryCall(ctx, &testpb.SimpleRequest{}); err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				r.good = append(r.good, time.Since(start))
			})
		}
		if elapsed == s.duration {
			break
		}
		<-tick.C
	}
	calls.Wait()
	return r
}
