package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// maxBackoff is the greatest delay before a reconnect: the first of the default retry policy. Later ones are not
// reached here, since the first reconnect succeeds.
const maxBackoff = 100 * time.Millisecond

// Outage is one cut, as the client saw it.
type Outage struct {
	Time  time.Duration // from the cut to the next message
	Delay time.Duration // the part of it that the backoff took
}

// burst is the number of messages that a handler sends.
const burst = 100

// feed sends numbered messages, on from the one that a client names, and then leaves the stream open. Their second
// number is that of the handler, so that a client can tell what came after a cut.
type feed struct {
	testpb.UnimplementedTestServiceServer

	handlers atomic.Uint64
}

// FullDuplexCall sends one burst.
func (f *feed) FullDuplexCall(s grpc.BidiStreamingServer[request, response]) error {
	start, err := s.Recv()
	if err != nil {
		return err
	}
	from := binary.LittleEndian.Uint64(start.GetPayload().GetBody()[8:])
	m := newResponse(headerSize)
	binary.LittleEndian.PutUint64(m.Payload.Body[8:], f.handlers.Add(1))
	for seq := from + 1; seq <= from+burst; seq++ {
		setPosition(m, seq)
		if err := s.Send(m); err != nil {
			return err
		}
	}
	<-s.Context().Done()
	return s.Context().Err()
}

// Reconnect cuts a connection so many times, and returns what the client saw: a resilient one, or a plain loop that
// does the same by hand. The same seed gives the same delays.
func Reconnect(ctx context.Context, c Client, cuts int, seed uint64) ([]Outage, error) {
	network, err := testnet.NewTCP("") //nolint:contextcheck // its life is this function's
	if err != nil {
		return nil, err
	}
	defer func() { _ = network.Close() }()
	listener, err := network.Listen()
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, &feed{})
	go func() { _ = server.Serve(listener) }() // ends with Stop, which waits for it
	defer server.Stop()
	conn, err := network.Client()
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &backoff{random: rand.New(rand.NewPCG(seed, seed))}
	recv, err := subscribe(ctx, c, testpb.NewTestServiceClient(conn).FullDuplexCall, b)
	if err != nil {
		return nil, err
	}
	return cutAndRecv(network, cuts, recv, b)
}

// cutAndRecv cuts the connection, receives until a message comes from a new handler, and again.
func cutAndRecv(network *testnet.TCP, cuts int, recv func() (*response, error), b *backoff) ([]Outage, error) {
	last, err := recv()
	if err != nil {
		return nil, err
	}
	outages := make([]Outage, 0, cuts)
	for range cuts {
		for range burst - 1 { // nothing is on its way at the cut
			if last, err = recv(); err != nil {
				return nil, err
			}
		}
		handler, seq := acked(last), position(last)
		network.Cut(testnet.RST)
		began := time.Now()
		for acked(last) == handler {
			if last, err = recv(); err != nil {
				return nil, err
			}
			if seq++; position(last) != seq {
				return nil, errors.New("a message is missing, or came twice")
			}
		}
		outages = append(outages, Outage{Time: time.Since(began), Delay: b.last})
	}
	return outages, nil
}

// method is a generated bidi method.
type method = func(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[request, response], error)

// subscribe opens the stream and returns what receives from it.
func subscribe(ctx context.Context, c Client, open method, b *backoff) (func() (*response, error), error) {
	if c == Bare {
		l := &loop{ctx: ctx, open: open, backoff: b}
		return l.recv, nil
	}
	cb := stream.Callbacks[request, response]{
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			return r.Send(newRequest(askNothing, r.Position().Seq, headerSize))
		},
		Checkpoint: func(m *response) (checkpoint.Position, bool) {
			return checkpoint.Position{Seq: position(m)}, true
		},
	}
	retry := stream.NewRetryPolicyBuilder().WithJitter(0).WithDelayFunc(func(failsafe.ExecutionAttempt[any]) time.Duration {
		return b.next()
	}).Build()
	s, err := stream.Resilient(ctx, open, cb, stream.WithStreamPolicies(retry))
	if err != nil {
		return nil, err
	}
	return s.Recv, nil
}

// loop is the reconnect loop that one writes by hand.
type loop struct {
	ctx      context.Context //nolint:containedctx // the life of the loop's streams
	open     method
	backoff  *backoff
	stream   grpc.BidiStreamingClient[request, response]
	position uint64
}

func (l *loop) recv() (*response, error) {
	for {
		if l.stream == nil {
			if err := l.connect(); err != nil {
				return nil, err
			}
		}
		m, err := l.stream.Recv()
		if err == nil {
			l.position = position(m)
			return m, nil
		}
		l.stream = nil
		timer := time.NewTimer(l.backoff.next())
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			timer.Stop()
			return nil, l.ctx.Err()
		}
	}
}

func (l *loop) connect() error {
	s, err := l.open(l.ctx)
	if err != nil {
		return err
	}
	l.stream = s
	return s.Send(newRequest(askNothing, l.position, headerSize))
}

// backoff draws delays, fully jittered.
type backoff struct {
	random *rand.Rand
	last   time.Duration // written by next, which happens before a reconnect, read after it
}

func (b *backoff) next() time.Duration {
	b.last = time.Duration(b.random.Int64N(int64(maxBackoff)))
	return b.last
}
