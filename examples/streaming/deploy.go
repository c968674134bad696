package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/examples/streaming/countpb"
	"github.com/streamsafe/streamsafe/internal/testnet"
)

const (
	drainWindow = 500 * time.Millisecond
	drainLimit  = 10 * time.Second // of a whole drain
)

// runDeploy runs the client, and half-way replaces the server by another one, as a deploy does.
func (j *job) runDeploy(
	ctx context.Context, network *testnet.TCP, old *server, service *counter, s *saboteur, p *progress,
) error {
	bare, err := bareGracefulStop(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var deploying sync.WaitGroup
	var deployed error
	deploying.Go(func() { // ends with the drain, or with ctx; Wait waits
		select {
		case <-s.halfway:
		case <-ctx.Done():
			return
		}
		listener, err := network.Listen() // new connections go to it
		if err != nil {
			deployed = err
			return
		}
		fresh := serve(listener, service, s.intercept)
		deployed = old.drain(ctx, p, bare)
		close(s.killed)
		<-ctx.Done()
		fresh.stop()
	})
	err = j.client(network.Addr(), p.update).run(ctx)
	cancel()
	deploying.Wait()
	return errors.Join(err, deployed)
}

// drain moves the clients of a server to another one, and tells how long that took.
func (s *server) drain(ctx context.Context, p *progress, bare string) error {
	draining, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	began := time.Now()
	err := s.drainer.Drain(draining, s.grpc)
	p.note("drained the server in %v; %s", time.Since(began).Round(time.Millisecond), bare)
	if ctx.Err() != nil {
		return nil // the client has ended, well or not
	}
	return err
}

// bareGracefulStop tells how long GracefulStop takes while one stream is open.
func bareGracefulStop(ctx context.Context) (string, error) {
	const limit = 2 * drainWindow
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := grpc.NewServer()
	countpb.RegisterCounterServer(server, &counter{})
	var running sync.WaitGroup
	defer running.Wait()
	defer server.Stop()
	running.Go(func() { _ = server.Serve(listener) }) // ends with the server
	conn, err := dial(listener.Addr().String())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // it served
	s, err := countpb.NewCounterClient(conn).Count(ctx)
	if err != nil {
		return "", err
	}
	err = s.Send(&countpb.Request{Kind: &countpb.Request_Hello{Hello: &countpb.Hello{Session: rand.Text()}}})
	if err == nil {
		_, err = s.Recv()
	}
	if err != nil {
		return "", err
	}
	stopped, began := make(chan struct{}), time.Now()
	running.Go(func() { // ends when Stop makes it
		server.GracefulStop()
		close(stopped)
	})
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-stopped:
		return fmt.Sprintf("a bare GracefulStop took %v", time.Since(began).Round(time.Millisecond)), nil
	case <-timer.C:
		return fmt.Sprintf("a bare GracefulStop had not returned after %v", limit), nil
	}
}
