package stream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/streamsafe/streamsafe/internal/socket"
)

// link is what an attempt and the interceptor of DialOptions tell each other while the attempt is opened. The context of the
// open carries it. Without DialOptions nobody looks at it.
type link struct {
	// set at construction, then read only
	again bool              // the stream has been open before
	codec *capture          // nil unless messages are kept or measured
	known *callCodec        // the codec of the stream
	news  func(cause error) // is told what the connection waits for
	named func(method string)

	refused atomic.Pointer[error]           // written by the interceptor: the call options are wrong
	conn    atomic.Pointer[grpc.ClientConn] // written by the interceptor before it opens the stream
	route   atomic.Pointer[route]           // written by the interceptor when the stream is open
	clock   heldClock
}

// route is the way that an attempt's messages take.
type route struct {
	socket *socket.Socket  // nil if it is not known
	reads  uint64          // of the socket when the stream was opened
	ctx    context.Context //nolint:containedctx // of the open: a probe has its values
	probe  socket.Probe
}

// linkKey is the context key of a *link.
type linkKey struct{}

func withLink(ctx context.Context, l *link) context.Context {
	return context.WithValue(ctx, linkKey{}, l)
}

// wrap returns opts, which are all that there are, the connection's defaults too, with the capture around the codec that they
// come to.
func (l *link) wrap(opts []grpc.CallOption) ([]grpc.CallOption, error) {
	if l.codec == nil {
		return opts, nil
	}
	others := slices.DeleteFunc(slices.Clone(opts), func(opt grpc.CallOption) bool {
		forced, ok := opt.(grpc.ForceCodecV2CallOption)
		return ok && forced.CodecV2 == l.codec
	})
	theirs := codecOf(others)
	if theirs == nil {
		err := errNoCodec
		l.refused.Store(&err)
		return nil, err
	}
	l.codec.CodecV2 = theirs
	l.known.use(theirs)
	return append(others, grpc.ForceCodecV2(l.codec)), nil
}

// opening says that the interceptor of DialOptions opens the stream.
func (l *link) opening(cc *grpc.ClientConn, method string) {
	l.conn.Store(cc)
	l.named(method)
}

// isDialled reports whether the connection has DialOptions.
func (l *link) isDialled() bool { return l.conn.Load() != nil }

// opened says that the stream is open.
func (l *link) opened(r *route) {
	if r.socket != nil {
		r.reads = r.socket.Reads()
	}
	l.route.Store(r)
}

// isReady reports whether the connection is ready, or not known.
func (l *link) isReady() bool {
	cc := l.conn.Load()
	return cc == nil || l.route.Load() != nil || cc.GetState() == connectivity.Ready
}

// heldClock counts time, and can be held.
type heldClock struct {
	mu    sync.Mutex // guards the fields below
	begun time.Time
	held  time.Duration
	since time.Time // when it was held; zero: it runs
}

// start begins to count.
func (c *heldClock) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun = time.Now()
}

// hold holds the clock, or lets it go on.
func (c *heldClock) hold(hold bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case hold && c.since.IsZero():
		c.since = time.Now()
	case !hold && !c.since.IsZero():
		c.held += time.Since(c.since)
		c.since = time.Time{}
	}
}

// read returns how long the clock has run, and whether it runs.
func (c *heldClock) read() (ran time.Duration, runs bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ran = time.Since(c.begun) - c.held
	if !c.since.IsZero() {
		ran -= time.Since(c.since)
	}
	return ran, c.since.IsZero()
}

// errNoCodec is the end of a stream whose call options name a codec that there is not.
var errNoCodec = errors.New("no codec is registered for the content subtype of the call options")
