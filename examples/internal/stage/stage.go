// Package stage is what the small examples have in common: a server behind a network that keeps breaking, and the line in which
// they say how it went.
package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// Stage is a server, a proxy before it that cuts connections, and a connection of a client through that.
type Stage struct {
	*grpc.ClientConn

	network *streamtest.Proxy
	server  *grpc.Server
}

// open starts a server with what register registers, and a network that cuts about every so many messages in a direction.
func open(register func(*grpc.Server), direction streamtest.Direction, messages int, opts ...grpc.DialOption) (*Stage, error) {
	network, err := streamtest.NewProxy("")
	if err != nil {
		return nil, err
	}
	s := &Stage{network: network, server: grpc.NewServer(grpc.StreamInterceptor(stream.ServerInterceptor()))}
	register(s.server)
	listener, err := network.Listen()
	if err != nil {
		s.close()
		return nil, err
	}
	go func() { _ = s.server.Serve(listener) }() // ends with the server
	if s.ClientConn, err = network.Client(opts...); err != nil {
		s.close()
		return nil, err
	}
	network.Chaos(streamtest.Chaos{Seed: 1, Directions: []streamtest.Direction{direction}, Messages: messages, Limit: 10})
	return s, nil
}

// close ends everything.
func (s *Stage) close() {
	if s.ClientConn != nil {
		_ = s.Close()
	}
	s.server.Stop()
	_ = s.network.Close() // only ever the listener's error
}

// Check prints what arrived, compared with what should have: what=N cuts=C lost=L duplicated=D reordered=R. It returns an error
// if they are not the same.
func Check[T comparable](s *Stage, what string, want, got []T) error {
	left := make(map[T]int)
	for _, v := range want {
		left[v]++
	}
	lost, duplicated, reordered := 0, 0, 0
	for _, v := range got {
		if left[v]--; left[v] < 0 {
			duplicated++
		}
	}
	for _, n := range left {
		lost += max(0, n)
	}
	if lost == 0 && duplicated == 0 && !slices.Equal(want, got) {
		for i := range want {
			if want[i] != got[i] {
				reordered++
			}
		}
	}
	_, err := fmt.Fprintf(os.Stdout, "%s=%d cuts=%d lost=%d duplicated=%d reordered=%d\n", what, len(got), len(s.network.Report().Cuts), lost, duplicated, reordered)
	if lost+duplicated+reordered > 0 {
		return errors.New("what arrived is not what was sent")
	}
	return err
}

// Main is the main function of an example: it runs run for a minute at most, on a stage as that of open.
func Main(
	run func(ctx context.Context, s *Stage) error,
	register func(*grpc.Server), direction streamtest.Direction, messages int, opts ...grpc.DialOption,
) {
	s, err := open(register, direction, messages, opts...)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err = run(ctx, s)
		cancel()
		s.close()
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
