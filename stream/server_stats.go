package stream

import (
	"maps"
	"sync"
	"sync/atomic"
)

// ServerCounters counts what happens to the streams of a server. The zero value is ready. Several interceptors may share one.
// Its methods are safe for concurrent use.
type ServerCounters struct {
	openedTotal, refusedTotal atomic.Uint64
	abandonedNow              atomic.Int64
	ends                      [EndRefused + 1]atomic.Uint64
	next                      atomic.Uint32
	shards                    [counterShards]messageCounter

	mu     sync.Mutex // guards the field below
	active map[string]int
}

// counterShards is how many places messages are counted at, so that streams on several processors do not share one.
const counterShards = 32

type messageCounter struct {
	received, sent atomic.Uint64
	_              [48]byte // a cache line of its own
}

// A server with a handler for unknown methods serves any name that a client thinks of. So the names are bounded.
const (
	maxMethods = 4096
	otherNames = "other"
)

// ServerStats is a snapshot of [ServerCounters].
type ServerStats struct {
	// Active is the number of streams that are open now, by full method name. Beyond 4,096 names it is under "other".
	Active map[string]int
	// Abandoned is the number of handlers that have not returned, though their stream was ended.
	Abandoned int
	// Opened and Refused count streams.
	Opened, Refused uint64
	// Ended counts the streams that have ended, by how. Without EndRefused.
	Ended map[End]uint64
	// Received and Sent count messages.
	Received, Sent uint64
}

// WithServerCounters counts the streams of a server in c. Default, and nil: they are not counted.
func WithServerCounters(c *ServerCounters) ServerOption {
	return serverOption(func(o *serverOptions) { o.counters = c })
}

// Stats returns a snapshot.
func (c *ServerCounters) Stats() ServerStats {
	s := ServerStats{
		Opened: c.openedTotal.Load(), Refused: c.refusedTotal.Load(), Abandoned: int(max(0, c.abandonedNow.Load())), Ended: map[End]uint64{},
	}
	for end := range c.ends {
		if n := c.ends[end].Load(); n > 0 {
			s.Ended[End(end)] = n //nolint:gosec // there are few
		}
	}
	for i := range c.shards {
		s.Received += c.shards[i].received.Load()
		s.Sent += c.shards[i].sent.Load()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Active = maps.Clone(c.active)
	return s
}

// The methods below do nothing if c is nil.

// opened counts a stream that was let in. It returns the name that the stream is counted under.
func (c *ServerCounters) opened(method string) string {
	if c == nil {
		return ""
	}
	c.openedTotal.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active == nil {
		c.active = make(map[string]int)
	}
	if _, ok := c.active[method]; !ok && len(c.active) >= maxMethods {
		method = otherNames
	}
	c.active[method]++
	return method
}

// ended counts the end of a stream that is counted under name.
func (c *ServerCounters) ended(name string, end End) {
	if c == nil {
		return
	}
	c.ends[end].Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active[name]--; c.active[name] == 0 {
		delete(c.active, name)
	}
}

func (c *ServerCounters) refused() {
	if c != nil {
		c.refusedTotal.Add(1)
	}
}

func (c *ServerCounters) abandoned(n int64) {
	if c != nil {
		c.abandonedNow.Add(n)
	}
}

// messages returns where a stream counts its messages.
func (c *ServerCounters) messages() *messageCounter {
	if c == nil {
		return nil
	}
	return &c.shards[c.next.Add(1)%counterShards]
}
