package stream_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// The tools of tests in which the server follows a script, one handler for each attempt.

type (
	callbacks  = stream.Callbacks[request, response]
	resumption = stream.Resumption[request, response]
)

// errGone is what a server says that is going away: it may be resumed.
var errGone = status.Error(codes.Unavailable, "going away")

// inOrder gives each attempt the next handler, and the last one to all that follow.
func inOrder(handlers ...func(bidi) error) func(bidi) error {
	var mu sync.Mutex // guards next
	next := 0
	return func(s bidi) error {
		mu.Lock()
		handler := handlers[min(next, len(handlers)-1)]
		next++
		mu.Unlock()
		return handler(s)
	}
}

// sends is a handler that sends frames and ends with err.
func sends(err error, frames ...frame) func(bidi) error {
	return func(s bidi) error {
		for _, f := range frames {
			if err := s.Send(f.response()); err != nil {
				return err
			}
		}
		return err
	}
}

// stays is a handler that sends frames and then waits for its end.
func stays(frames ...frame) func(bidi) error {
	return func(s bidi) error {
		if err := sends(nil, frames...)(s); err != nil {
			return err
		}
		<-s.Context().Done()
		return s.Context().Err()
	}
}

// lasts is a handler that sends frames, waits for d, and ends with err.
func lasts(d time.Duration, err error, frames ...frame) func(bidi) error {
	return func(s bidi) error {
		if err := sends(nil, frames...)(s); err != nil {
			return err
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return err
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// numbered returns data frames with these sequence numbers.
func numbered(seqs ...uint64) []frame {
	frames := make([]frame, 0, len(seqs))
	for _, seq := range seqs {
		frames = append(frames, frame{kind: data, seq: seq})
	}
	return frames
}

// positions are callbacks that know positions and protocol messages. The server knows by itself where to go on.
func positions() callbacks {
	cb := (&feed{}).callbacks()
	return callbacks{
		Checkpoint: cb.Checkpoint, Control: cb.Control,
		Resume: saysNothing,
	}
}

// saysNothing is a Resume for servers that know by themselves where to go on.
func saysNothing(context.Context, *resumption) error { return nil }

// greets returns a Resume that tells the server the position, in a hello, and waits for no answer.
func greets(_ context.Context, r *resumption) error {
	return r.Send(frame{kind: hello, seq: r.Position().Seq}.request())
}

// delivers returns a Resume that receives n messages and gives them to Deliver.
func delivers(n int) func(context.Context, *resumption) error {
	return func(_ context.Context, r *resumption) error {
		for range n {
			m, err := r.Recv()
			if err != nil {
				return err
			}
			r.Deliver(m)
		}
		return nil
	}
}

// dial opens a stream with the callbacks given.
func (w *world) dial(ctx context.Context, cb callbacks, opts ...stream.ClientOption) (*client, error) {
	return stream.Resilient(w.watch.context(ctx), testpb.NewTestServiceClient(w.conn).FullDuplexCall, cb, opts...)
}

// mustDial is dial where that has to succeed. The stream is closed with the test.
func (w *world) mustDial(cb callbacks, opts ...stream.ClientOption) *client {
	w.t.Helper()
	s, err := w.dial(w.t.Context(), cb, opts...)
	require.NoError(w.t, err)
	closeAtTheEnd(w.t, s)
	return s
}

// scripted starts a world whose server has a handler for each attempt.
func scripted(t *testing.T, handlers ...func(bidi) error) *world {
	t.Helper()
	return newWorld(t, &feed{handler: inOrder(handlers...)})
}

// receiveAll receives until that fails.
func receiveAll(s *client) ([]uint64, error) {
	var got []uint64
	for {
		m, err := s.Recv()
		if err != nil {
			return got, err
		}
		got = append(got, frameOf(m).seq)
	}
}

// mustReceive receives messages with these numbers.
func mustReceive(t *testing.T, s *client, want ...uint64) {
	t.Helper()
	for _, seq := range want {
		m, err := s.Recv()
		require.NoError(t, err, "message %d", seq)
		require.Equal(t, seq, frameOf(m).seq)
	}
}

// wantEnd sees that err is the end of a stream for a reason, with a code.
func wantEnd(t *testing.T, err error, reason stream.Reason, code codes.Code, what string) {
	t.Helper()
	var e *stream.Error
	require.ErrorAs(t, err, &e, what)
	require.Equal(t, reason.String(), e.Reason.String(), "%s: the reason of %v", what, err)
	require.Equal(t, code.String(), status.Code(err).String(), "%s: the code of %v", what, err)
}

// note is what a diary has of one event.
type note struct {
	name  string
	info  stream.Info
	at    checkpoint.Position
	cause error
	delay time.Duration
	count uint64
	bytes int
}

// diary is an observer that keeps everything.
type diary struct {
	mu    sync.Mutex // guards the fields below
	notes []note
}

func (d *diary) add(e note) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes = append(d.notes, e)
}

func (d *diary) OnOpened(i stream.Info) { d.add(note{name: "opened", info: i}) }
func (d *diary) OnAttached(i stream.Info, from checkpoint.Position) {
	d.add(note{name: "attached", info: i, at: from})
}

func (d *diary) OnDetached(i stream.Info, cause error) {
	d.add(note{name: "detached", info: i, cause: cause})
}

func (d *diary) OnReconnectScheduled(i stream.Info, delay time.Duration) {
	d.add(note{name: "scheduled", info: i, delay: delay})
}

func (d *diary) OnReplaying(i stream.Info, n uint64) {
	d.add(note{name: "replaying", info: i, count: n})
}

func (d *diary) OnRewound(i stream.Info, n uint64) {
	d.add(note{name: "rewound", info: i, count: n})
}

func (d *diary) OnDuplicate(i stream.Info, n uint64, at checkpoint.Position) {
	d.add(note{name: "duplicate", info: i, count: n, at: at})
}

func (d *diary) OnHeldOverflow(i stream.Info, n uint64, bytes int) {
	d.add(note{name: "overflow", info: i, count: n, bytes: bytes})
}

func (d *diary) OnWindowFull(i stream.Info, n uint64, bytes int) {
	d.add(note{name: "full", info: i, count: n, bytes: bytes})
}

func (d *diary) OnCommitted(i stream.Info, at checkpoint.Position) {
	d.add(note{name: "committed", info: i, at: at})
}

func (d *diary) OnCommitFailed(i stream.Info, at checkpoint.Position, cause error) {
	d.add(note{name: "commit failed", info: i, at: at, cause: cause})
}

func (d *diary) OnFenced(i stream.Info, cause error) {
	d.add(note{name: "fenced", info: i, cause: cause})
}

func (d *diary) OnGap(i stream.Info, cause error) {
	d.add(note{name: "gap", info: i, cause: cause})
}

func (d *diary) OnLost(i stream.Info, from checkpoint.Position, cause error) {
	d.add(note{name: "lost", info: i, at: from, cause: cause})
}

func (d *diary) OnClosed(i stream.Info, cause error) {
	d.add(note{name: "closed", info: i, cause: cause})
}

// names returns the names of all events, in order.
func (d *diary) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make([]string, 0, len(d.notes))
	for _, e := range d.notes {
		names = append(names, e.name)
	}
	return names
}

// of returns the events with a name, in order.
func (d *diary) of(name string) []note {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []note
	for _, e := range d.notes {
		if e.name == name {
			found = append(found, e)
		}
	}
	return found
}

// delays returns the delays before reconnects, in order.
func (d *diary) delays() []time.Duration {
	scheduled := d.of("scheduled")
	delays := make([]time.Duration, 0, len(scheduled))
	for _, e := range scheduled {
		delays = append(delays, e.delay)
	}
	return delays
}

// handled returns how many handlers have begun.
func handled(w *world) int {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	return w.feed.handlers
}

// active returns how many handlers are running.
func active(w *world) int {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	return w.feed.active
}

// codeOf returns the code of what an error says of itself.
func codeOf(err error) codes.Code { return status.Code(err) }
