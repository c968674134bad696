package stream_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

func TestTheOrderOfEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t,
			sends(errGone, numbered(1)...),
			lasts(time.Minute, nil, append(numbered(1, 2), frame{kind: fragment, seq: 9})...),
		)
		var d diary
		began := time.Now()
		s := w.mustDial(positions(), stream.WithObserver(&d), stream.WithName("prices"))
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []uint64{1, 2, 9}, got)
		synctest.Wait()
		require.Equal(t, []string{"opened", "attached", "detached", "scheduled", "opened", "attached", "duplicate", "closed"}, d.names())
		attempts := []uint64{1, 1, 1, 1, 2, 2, 2, 2}
		last := began
		for i, e := range d.notes {
			require.Equal(t, "prices", e.info.Name)
			require.Equal(t, attempts[i], e.info.Attempt, "event %d, %s", i, e.name)
			require.False(t, e.info.Time.Before(last), "event %d, %s", i, e.name)
			last = e.info.Time
		}
		require.Equal(t, checkpoint.Position{}, d.notes[1].at, "where the first attempt starts")
		require.Equal(t, codes.Unavailable, codeOf(d.notes[2].cause))
		require.Equal(t, d.notes[3].delay, d.notes[4].info.Time.Sub(d.notes[3].info.Time))
		require.Equal(t, at(1), d.notes[5].at, "where the second attempt starts")
		require.Equal(t, io.EOF, d.notes[7].cause)
	})
}

// Every event is told at least once by a stream that has seen everything.
func TestEveryEventIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		resumes := func(then func(bidi) error) func(bidi) error {
			return func(s bidi) error {
				for range 2 { // the hello, and a message
					if _, err := s.Recv(); err != nil {
						return err
					}
				}
				return then(s)
			}
		}
		f.handler = inOrder(
			resumes(sends(errGone, frame{kind: data, seq: 1}, frame{kind: fragment, seq: 9})),
			resumes(sends(errCompacted, numbered(1, 2)...)),
			resumes(stays(numbered(1, 3)...)), // a gap
			resumes(lasts(time.Second, errGone, append(numbered(2, 2), frame{kind: fragment, seq: 8, size: 2000})...)),
			resumes(stays()),
		)
		w := newWorld(t, f)
		cb := f.callbacks()
		cb.Resume = greets
		cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
			return stream.RestartFrom(checkpoint.Position{}), nil
		}
		store := &oddStore{commit: failing(errors.New("disk on fire")), once: true}
		var d diary
		s := w.mustDial(cb, stream.WithObserver(&d), stream.WithGapDetection(), stream.WithStore(store, "k", stream.CommitInterval(time.Second)),
			stream.HoldUntilCheckpoint(1000, stream.OverflowDeliver),
			stream.WithReplay(stream.ReplayLimits{Messages: 1}), stream.WithIdleTimeout(time.Minute))
		require.NoError(t, s.Send(frame{kind: data, seq: 1}.request()))
		go func() { _ = s.Send(frame{kind: data, seq: 2}.request()) }() // waits for room, and ends with the stream
		mustReceive(t, s, 1)
		time.Sleep(2 * time.Second)
		mustReceive(t, s, 2, 1, 2)
		time.Sleep(3 * time.Second)
		mustReceive(t, s, 8)
		_, err := store.Acquire(t.Context(), "k")
		require.NoError(t, err)
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonFenced, codes.Aborted, "another owner has the key")
		synctest.Wait()
		told := map[string]bool{}
		for _, name := range d.names() {
			told[name] = true
		}
		for _, name := range []string{
			"opened", "attached", "detached", "scheduled", "replaying", "rewound", "duplicate", "overflow", "full",
			"committed", "commit failed", "fenced", "gap", "lost", "closed",
		} {
			require.True(t, told[name], name)
		}
	})
}

// stuck is an observer that does not return until it is let go.
type stuck struct {
	diary
	release chan struct{}
}

func (o *stuck) OnOpened(i stream.Info) {
	<-o.release
	o.diary.OnOpened(i)
}

// An observer that is stuck delays nothing but itself. What it is too slow for is dropped and counted; the end is told.
func TestAStuckObserverDelaysNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &stuck{release: make(chan struct{})}
		var d diary
		again := make([]uint64, 1500)
		for i := range again {
			again[i] = 1
		}
		w := scripted(t, sends(errGone, numbered(1)...), sends(nil, numbered(again...)...))
		s := w.mustDial(positions(), stream.WithObserver(o), stream.WithObserver(&d))
		began := time.Now()
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(1), got)
		require.Less(t, time.Since(began), time.Second)
		mustClose(t, s, "called by the test")
		st := s.Stats()
		require.Equal(t, uint64(1500), st.Duplicates)
		require.Empty(t, o.names())
		close(o.release)
		synctest.Wait()
		require.Equal(t, "closed", o.names()[len(o.names())-1], "the end is never dropped")
		require.Equal(t, len(d.names()), len(o.names()), "both observers are told the same")
		require.Equal(t, uint64(1500+7), uint64(len(o.names()))+st.EventsDropped, "told and dropped are all")
		require.InDelta(t, 1024, len(o.names()), 3)
	})
}

// An observer may implement one interface alone.
type onlyClosed struct{ causes chan error }

func (o onlyClosed) OnClosed(_ stream.Info, cause error) { o.causes <- cause }

func TestAnObserverOfOneEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := onlyClosed{make(chan error, 2)}
		s := scripted(t, sends(errGone), stays()).mustDial(positions(), stream.WithObserver(o))
		mustClose(t, s, "called by the test")
		wantEnd(t, within(t, o.causes, "OnClosed"), stream.ReasonClosed, codes.Canceled, "the same error as Recv's")
		_, err := s.Recv()
		require.Error(t, err)
		require.Empty(t, o.causes, "once")
	})
}
