package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
)

// Ports are drawn from below the range that systems give to outgoing connections, so that a member which is stopped for
// a while finds its own free again.
const lowestPort, highestPort = 20_000, 32_000

// freePorts returns ports of 127.0.0.1 that nobody listens on.
func freePorts(ctx context.Context, count int) ([]int, error) {
	var found []int
	var listen net.ListenConfig
	for range 100 * count {
		port := lowestPort + rand.IntN(highestPort-lowestPort) //nolint:gosec // no secret
		if slices.Contains(found, port) {
			continue
		}
		listener, err := listen.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue // in use
		}
		if err := listener.Close(); err != nil {
			return nil, err
		}
		if found = append(found, port); len(found) == count {
			return found, nil
		}
	}
	return nil, errors.New("no free ports")
}
