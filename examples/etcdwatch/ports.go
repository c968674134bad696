package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are drawn from below the range that systems give to outgoing connections, so that a member which is stopped for
// a while finds its own free again.
const lowestPort, highestPort = 20_000, 32_000

// ports are some of 127.0.0.1, one after the other. The one before the first is a guard: it is listened on for as long as
// the ports are in use, and keeps whoever draws in the same way, in this process or another, away from them.
type ports struct {
	first int
	guard net.Listener
}

// reservePorts returns so many ports that nobody listens on. They are to be released.
func reservePorts(ctx context.Context, count int) (*ports, error) {
	blocks := (highestPort - lowestPort) / (count + 1)
	for range 100 {
		at := lowestPort + rand.IntN(blocks)*(count+1) //nolint:gosec // no secret
		guard, err := listen(ctx, at)
		if err != nil {
			continue // in use
		}
		p := &ports{first: at + 1, guard: guard}
		if p.free(ctx, count) {
			return p, nil
		}
		p.release()
	}
	return nil, errors.New("no free ports")
}

// free reports whether nobody listens on any of the ports.
func (p *ports) free(ctx context.Context, count int) bool {
	for i := range count {
		listener, err := listen(ctx, p.first+i)
		if err != nil {
			return false
		}
		_ = listener.Close() // nobody has connected
	}
	return true
}

func (p *ports) release() { _ = p.guard.Close() } // nobody talks to it

func listen(ctx context.Context, port int) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
}
