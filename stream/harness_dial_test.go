package stream_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
)

// probeCounter counts calls of the health service that are sent on a connection.
type probeCounter struct {
	stats.Handler
	n *atomic.Int64
}

type probeKey struct{}

func (c *probeCounter) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, probeKey{}, info.FullMethodName == healthpb.Health_Check_FullMethodName)
}

func (c *probeCounter) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, sent := s.(*stats.OutHeader); sent && ctx.Value(probeKey{}) == true {
		c.n.Add(1)
	}
}

func (c *probeCounter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (c *probeCounter) HandleConn(context.Context, stats.ConnStats) {}

// histogram keeps when something happened.
type histogram struct {
	mu    sync.Mutex // guards the field below
	times []time.Time
}

func (h *histogram) add(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.times = append(h.times, at)
}

// windows returns the most that happened in any window of that width, the mean, and how long all took.
func (h *histogram) windows(width time.Duration) (most int, mean float64, took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortFunc(h.times, time.Time.Compare)
	first := 0
	for i, at := range h.times {
		for at.Sub(h.times[first]) >= width {
			first++
		}
		most = max(most, i-first+1)
	}
	took = h.times[len(h.times)-1].Sub(h.times[0])
	return most, float64(len(h.times)) * float64(width) / float64(max(took, width)), took
}
