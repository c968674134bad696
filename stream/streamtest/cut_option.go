package streamtest

import (
	"slices"
	"time"

	"google.golang.org/grpc"
)

// CutOption is an option of [CutEverywhere].
type CutOption interface{ applyCut(*cutOptions) }

type cutOption func(*cutOptions)

func (o cutOption) applyCut(c *cutOptions) { o(c) }

// The defaults. In memory the time is that of a bubble, which costs nothing.
const (
	memoryLimit  = 10 * time.Minute
	tcpLimit     = 20 * time.Second
	memoryLasts  = 30 * time.Second
	tcpLasts     = 2 * time.Second
	memoryPause  = 50 * time.Millisecond
	tcpPause     = 10 * time.Millisecond
	shortBudget  = 100
	mostFailures = 10
	failing      = 10 * time.Second // for more failures, after the first one
)

type cutOptions struct {
	server   []grpc.ServerOption
	dial     []grpc.DialOption
	kinds    []Kind
	limit    time.Duration
	lasts    time.Duration
	pause    time.Duration
	budget   int // of runs; zero: none
	budgeted bool
	seed     uint64
	seeded   bool
	tcp      bool
}

func cutOptionsOf(opts []CutOption) cutOptions {
	var o cutOptions
	for _, opt := range opts {
		if opt != nil {
			opt.applyCut(&o)
		}
	}
	o.pause = memoryPause
	limit, lasts, kinds := memoryLimit, memoryLasts, []Kind{RST, FIN, Refusal, BlackHole, StallToServer, StallToClient}
	if o.tcp {
		o.pause = tcpPause
		limit, lasts, kinds = tcpLimit, tcpLasts, []Kind{RST, FIN}
	}
	if o.limit <= 0 {
		o.limit = limit
	}
	if o.lasts <= 0 {
		o.lasts = lasts
	}
	if len(o.kinds) == 0 {
		o.kinds = kinds
	}
	return o
}

// WithServerOptions adds options to the server, such as interceptors. Default: none.
func WithServerOptions(opts ...grpc.ServerOption) CutOption {
	return cutOption(func(o *cutOptions) { o.server = append(o.server, opts...) })
}

// WithDialOptions adds options to the client connection, such as interceptors. Default: no TLS, and grpc's own values.
func WithDialOptions(opts ...grpc.DialOption) CutOption {
	return cutOption(func(o *cutOptions) { o.dial = append(o.dial, opts...) })
}

// WithKinds sets what happens at each place. Default: RST, FIN, Refusal, BlackHole, StallToServer and StallToClient; with WithTCP
// only RST and FIN, since the others take their time. A kind that names a direction happens at places in that direction; Truncate only
// inside a message.
func WithKinds(kinds ...Kind) CutOption {
	return cutOption(func(o *cutOptions) { o.kinds = slices.Clone(kinds) })
}

// WithLimit sets how long Run may take at one place, and then how long handlers may take to return. Default, also for zero and
// less: 10 minutes of the bubble's time, which costs nothing; with WithTCP 20 s.
func WithLimit(d time.Duration) CutOption {
	return cutOption(func(o *cutOptions) { o.limit = d })
}

// WithFaultsFor sets how long black holes, stalls and refusals last. Default, also for zero and less: 30 s of the bubble's time;
// with WithTCP 2 s.
func WithFaultsFor(d time.Duration) CutOption {
	return cutOption(func(o *cutOptions) { o.lasts = d })
}

// WithBudget sets how many runs there are at most. If there are more places, a sample of them is drawn; its seed is logged, and stands
// in each failure. Zero or less: every place. Default: every place, or 100 runs with go test -short.
//
// A place that go test -run names is run, whatever the budget is.
func WithBudget(runs int) CutOption {
	return cutOption(func(o *cutOptions) { o.budget, o.budgeted = max(0, runs), true })
}

// WithSeed sets the seed of the sample that a budget draws. Default: another one each time.
func WithSeed(seed uint64) CutOption {
	return cutOption(func(o *cutOptions) { o.seed, o.seeded = seed, true })
}

// WithTCP runs over real sockets and in real time. Use it if the server or the client does I/O of its own, with a database for
// example, or uses what was made outside Serve and Run and cannot be in a testing/synctest bubble. Default: in memory, in a bubble.
func WithTCP() CutOption {
	return cutOption(func(o *cutOptions) { o.tcp = true })
}
