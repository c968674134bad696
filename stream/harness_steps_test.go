package stream_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// rest lets time pass, and what that sets in motion come to rest.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// mustSend sends messages numbered from first to last.
func mustSend(t *testing.T, s *client, first, last uint64) {
	t.Helper()
	for seq := first; seq <= last; seq++ {
		require.NoError(t, s.Send(frame{kind: data, seq: seq}.request()), "message %d", seq)
	}
}

// receiving receives in a goroutine of its own until the end, and returns where the end is told.
func receiving(s *client) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- drain(s) }() // ends with the stream; nobody waits for it
	return ended
}

// blocked starts a Recv and a Send of a large message, and returns where their errors arrive.
func blocked(s *client) (recv, send <-chan error) {
	received, sent := make(chan error, 1), make(chan error, 1)
	go func() { _, err := receiveAll(s); received <- err }() // both end with the stream; the caller waits for them
	go func() {
		for {
			if err := s.Send(frame{kind: data, size: 60_000}.request()); err != nil {
				sent <- err
				return
			}
		}
	}()
	return received, sent
}

// received is what a receiving goroutine has got, and how it ended.
type received struct {
	got []uint64
	err error
}

// drain receives until the end and returns how the stream ended.
func drain(s *client) error {
	for {
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
}

// requireReason requires an error of this package with the reason.
func requireReason(t *testing.T, err error, reason stream.Reason, about string) {
	t.Helper()
	var e *stream.Error
	require.ErrorAs(t, err, &e, about)
	require.Equal(t, reason.String(), e.Reason.String(), about)
}

// exchange sends n messages in one goroutine, receives in another until the end, and returns what came.
func exchange(s *client, n uint64) (got []uint64, sendErr, recvErr error) {
	sent := make(chan error, 1)
	go func() { sent <- sendAll(s, n) }() // ends with the stream; the end of this function waits for it
	for {
		m, err := s.Recv()
		if err != nil {
			recvErr = err
			break
		}
		got = append(got, frameOf(m).seq)
	}
	return got, <-sent, recvErr
}

// sendAll sends n messages, reusing one, and closes the sending side.
func sendAll(s *client, n uint64) error {
	m := frame{kind: data}.request()
	for seq := uint64(1); seq <= n; seq++ {
		m.Payload = frame{kind: data, seq: seq}.payload()
		if err := s.Send(m); err != nil {
			return err
		}
	}
	return s.CloseSend()
}

// goesOn sees that the stream has not ended, a while later.
func goesOn(t *testing.T, ended <-chan error) {
	t.Helper()
	rest(time.Minute)
	select {
	case err := <-ended:
		t.Fatalf("the stream has ended: %v", err)
	default:
	}
}

// attemptsOf returns how many attempts the stream had made that ended with err.
func attemptsOf(err error) uint64 {
	var e *stream.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Attempts
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
