package stream_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// rotationMode is a stream that is rotated.
type rotationMode struct {
	name      string
	callbacks func(*feed) callbacks
	options   []stream.ClientOption
	fragments bool
	replays   bool
	receives  bool // the application sends nothing
}

func rotationModes() []rotationMode {
	numbers := func(f *feed) callbacks { return announced(f.callbacks()) }
	tokens := func(f *feed) callbacks { return announced(byToken(f.callbacks())) }
	holding := stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail)
	replay := withReplay()
	return []rotationMode{
		{name: "numbers, replay", callbacks: numbers, options: []stream.ClientOption{replay}, replays: true},
		{name: "numbers, replay, no holes", callbacks: numbers, options: []stream.ClientOption{replay, stream.WithGapDetection()}, replays: true},
		{name: "tokens, replay", callbacks: tokens, options: []stream.ClientOption{replay}, replays: true},
		{name: "fragments, replay", callbacks: numbers, options: []stream.ClientOption{replay}, replays: true, fragments: true},
		{name: "fragments, holding, replay", callbacks: numbers, options: []stream.ClientOption{replay, holding}, replays: true, fragments: true},
		{name: "fragments, tokens, holding, replay", callbacks: tokens, options: []stream.ClientOption{replay, holding}, replays: true, fragments: true},
		{name: "numbers, at most once", callbacks: numbers, options: []stream.ClientOption{stream.WithAtMostOnceSends()}},
		{name: "tokens, acknowledged, no replay", callbacks: tokens},
		{name: "tokens, receives only", callbacks: tokens, receives: true},
	}
}

// wants is what the application has to get.
func (m rotationMode) wants() []uint64 {
	var all []uint64
	for _, seq := range upTo(rotated) {
		if m.fragments {
			all = append(all, unitOf(seq))
		}
		all = append(all, seq)
	}
	return all
}

// rotated is how many messages go each way in these matrices.
const rotated = 8

// run sends and receives, one message at a time, so that the place of a rotation counts; and holds both journals against what
// is promised. exact: each message reached the server once.
func (m rotationMode) run(t *testing.T, s *client, f *feed, exact bool) {
	t.Helper()
	sent := make(chan error, 1)
	go func() { // ends with the stream; a line below waits for it
		var err error
		for seq := uint64(1); seq <= rotated && err == nil && !m.receives; seq++ {
			time.Sleep(10 * time.Millisecond)
			err = s.Send(frame{kind: data, seq: seq}.request())
		}
		time.Sleep(time.Second) // a rotation that was put off comes again
		if err == nil {
			err = s.CloseSend()
		}
		sent <- err
	}()
	got, err := receiveAll(s)
	require.ErrorIs(t, err, io.EOF, "the end")
	require.NoError(t, within(t, sent, "the end of sending"), "sending")
	require.Equal(t, m.wants(), got, "what the application got: in order, no loss, no duplicate")
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.receives {
		return
	}
	require.Equal(t, upTo(rotated), f.stored, "what the server has: in order, no loss, no duplicate")
	if exact {
		require.Equal(t, upTo(rotated), f.seen, "what the handlers have seen: each message once")
	}
}

// places are after how many messages of the server a rotation may come.
func (m rotationMode) places() int {
	n := 1 + 2*rotated // a hello, data, acknowledgements
	if m.fragments {
		n += rotated
	}
	if m.receives {
		n -= rotated
	}
	return n
}

// noOutage sees that nothing of that looked like a failure (invariant 28).
func noOutage(t *testing.T, s *client, d *diary) {
	t.Helper()
	st := s.Stats()
	require.Zero(t, st.Outages, "outages")
	require.Equal(t, uint64(len(d.of("rotated"))), st.Rotations, "rotations")
	require.Empty(t, d.of("duplicate"), "nothing came twice")
	require.Empty(t, d.of("rewound"), "nothing may come twice")
}

// A server announces its end at each place and goes on, also to acknowledge, until the client has left.
func TestMatrixOfRotations(t *testing.T) {
	t.Parallel()
	for _, m := range rotationModes() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for after := 1; after <= m.places(); after++ {
				synctest.Test(t, func(t *testing.T) {
					f := &feed{total: rotated}
					l := &leavers{after: after, handlers: 3, fragments: m.fragments}
					l.leave(f)
					w := newWorld(t, f)
					var d diary
					s := w.mustDial(m.callbacks(f), append(m.options, stream.WithObserver(&d))...)
					m.run(t, s, f, true)
					synctest.Wait()
					noOutage(t, s, &d)
					if after < m.places() {
						require.NotZero(t, s.Stats().Rotations, "rotations, after %d messages", after)
					}
					require.Empty(t, d.of("detached"))
					require.Zero(t, s.Stats().Replayed, "messages sent again")
					require.Zero(t, f.active, "handlers left")
				})
			}
		})
	}
}

// A server announces its end and ends at once: a planned close.
func TestMatrixOfAnnouncedEnds(t *testing.T) {
	t.Parallel()
	for _, ends := range []error{errGone, io.EOF, status.Error(codes.Unavailable, "error reading from server: EOF")} {
		for _, m := range rotationModes() {
			if !m.replays && !m.receives {
				continue // what is on its way when the server ends is in doubt
			}
			t.Run(fmt.Sprintf("%v, %s", ends, m.name), func(t *testing.T) {
				t.Parallel()
				for after := 1; after < m.places(); after++ {
					synctest.Test(t, func(t *testing.T) {
						f := &feed{total: rotated}
						l := &leavers{after: after, handlers: 2, fragments: m.fragments, ends: ends}
						l.leave(f)
						handler := f.handler
						f.handler = func(s bidi) error {
							err := handler(s)
							if errors.Is(err, io.EOF) {
								return nil
							}
							return err
						}
						w := newWorld(t, f)
						var d diary
						s := w.mustDial(m.callbacks(f), append(m.options, stream.WithObserver(&d))...)
						m.runBroken(t, s, f)
						synctest.Wait()
						require.Zero(t, s.Stats().Outages, "after %d messages", after)
						require.NotEmpty(t, d.of("detached"), "after %d messages", after)
					})
				}
			})
		}
	}
}

// runBroken is run for a server that ends attempts in the middle of a unit.
func (m rotationMode) runBroken(t *testing.T, s *client, f *feed) {
	t.Helper()
	if !m.fragments || len(m.options) > 1 {
		m.run(t, s, f, false)
		return
	}
	ended := receiving(s) // fragments may come again, as after any break
	require.NoError(t, sendAll(s, rotated))
	require.ErrorIs(t, within(t, ended, "the end"), io.EOF)
	require.Equal(t, upTo(rotated), f.stored)
}

// The first openings of the next attempt fail, in different ways, and the old one goes on.
func TestMatrixOfRotationsThatArePutOff(t *testing.T) {
	t.Parallel()
	for _, m := range rotationModes() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for after := 1; after <= m.places(); after++ {
				synctest.Test(t, func(t *testing.T) {
					f := &feed{total: rotated}
					l := &leavers{after: after, handlers: 1, fragments: m.fragments}
					l.leave(f)
					w := newWorld(t, f, opensDo(func(n int) error {
						if n != 2 {
							return nil
						}
						time.Sleep(15 * time.Millisecond) // something arrives meanwhile
						return errGone
					}))
					var d diary
					s := w.mustDial(m.callbacks(f), append(m.options, stream.WithObserver(&d))...)
					m.run(t, s, f, true)
					synctest.Wait()
					noOutage(t, s, &d)
					if after < m.places()-1 {
						require.Len(t, d.of("put off"), 1, "after %d messages", after)
					}
				})
			}
		})
	}
}

// The old attempt breaks while the next one is opened: because of that, perhaps. The next one takes over.
func TestMatrixOfBreaksDuringRotations(t *testing.T) {
	t.Parallel()
	for _, ends := range []error{errGone, nil, status.Error(codes.Aborted, "superseded"), status.Error(codes.Internal, "bug")} {
		for _, m := range rotationModes() {
			t.Run(fmt.Sprintf("%v, %s", ends, m.name), func(t *testing.T) {
				t.Parallel()
				for after := 1; after < m.places()-1; after++ {
					synctest.Test(t, func(t *testing.T) {
						f := &feed{total: rotated}
						l := &leavers{after: after, handlers: 1, fragments: m.fragments}
						l.leave(f)
						w := newWorld(t, f, opensDo(func(n int) error {
							if n == 2 {
								l.end(1, ends)
								time.Sleep(time.Millisecond)
							}
							return nil
						}))
						var d diary
						s := w.mustDial(m.callbacks(f), append(m.options, stream.WithObserver(&d))...)
						m.run(t, s, f, true)
						synctest.Wait()
						noOutage(t, s, &d)
						require.Equal(t, uint64(1), s.Stats().Rotations, "after %d messages", after)
					})
				}
			})
		}
	}
}

// The next attempt cannot be opened, and the server has ended the old one because of it: that is no last word, and no failure.
func TestMatrixOfBreaksDuringRotationsThatFail(t *testing.T) {
	t.Parallel()
	for _, ends := range []error{errGone, nil, status.Error(codes.Aborted, "superseded")} {
		for _, m := range rotationModes() {
			if !m.replays && !m.receives {
				continue
			}
			t.Run(fmt.Sprintf("%v, %s", ends, m.name), func(t *testing.T) {
				t.Parallel()
				for after := 1; after < m.places()-1; after++ {
					synctest.Test(t, func(t *testing.T) {
						f := &feed{total: rotated}
						l := &leavers{after: after, handlers: 1, fragments: m.fragments}
						l.leave(f)
						w := newWorld(t, f, opensDo(func(n int) error {
							if n == 2 {
								l.end(1, ends)
								time.Sleep(time.Millisecond)
								return errGone
							}
							return nil
						}))
						var d diary
						s := w.mustDial(m.callbacks(f), append(m.options, stream.WithObserver(&d))...)
						m.run(t, s, f, false)
						synctest.Wait()
						noOutage(t, s, &d)
						require.Len(t, d.of("put off"), 1, "after %d messages", after)
						require.Len(t, d.of("detached"), 1, "after %d messages", after)
					})
				}
			})
		}
	}
}

// The application closes the stream, or its context ends, while the next attempt is opened.
func TestMatrixOfClosesDuringRotations(t *testing.T) {
	t.Parallel()
	for _, m := range rotationModes() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for after := 1; after < m.places()-1; after++ {
				synctest.Test(t, func(t *testing.T) {
					f := &feed{total: rotated}
					l := &leavers{after: after, handlers: 1, fragments: m.fragments}
					l.leave(f)
					opening, closed := make(chan struct{}), make(chan error, 1)
					w := newWorld(t, f, opensDo(func(n int) error {
						if n == 2 {
							close(opening)
							<-closed
						}
						return nil
					}))
					s := w.mustDial(m.callbacks(f), m.options...)
					ended := receiving(s)
					sent := async(func() (err error) {
						for seq := uint64(1); seq <= rotated && err == nil; seq++ {
							time.Sleep(10 * time.Millisecond)
							err = s.Send(frame{kind: data, seq: seq}.request())
						}
						return err
					})
					within(t, opening, "the next attempt")
					require.Equal(t, stream.Rotating, s.State())
					closed <- s.Close()
					requireReason(t, within(t, ended, "the end"), stream.ReasonClosed, "Recv")
					if err := within(t, sent, "the end of sending"); err != nil {
						requireReason(t, err, stream.ReasonClosed, "Send")
					}
					rest(time.Second)
					require.Zero(t, active(w), "handlers left")
				})
			}
		})
	}
}

// Attempts are replaced at each age.
func TestMatrixOfAges(t *testing.T) {
	t.Parallel()
	for _, m := range rotationModes() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for age := 5 * time.Millisecond; age < 200*time.Millisecond; age += 10 * time.Millisecond {
				synctest.Test(t, func(t *testing.T) {
					f := &feed{total: rotated}
					l := &leavers{fragments: m.fragments}
					l.leave(f)
					w := newWorld(t, f, grpc.EmptyDialOption{})
					var d diary
					s := w.mustDial(m.callbacks(f), append(m.options, stream.WithObserver(&d), stream.WithMaxAge(age, age/2))...)
					m.run(t, s, f, true)
					synctest.Wait()
					noOutage(t, s, &d)
					require.NotZero(t, s.Stats().Rotations, "age %v", age)
				})
			}
		})
	}
}
