package stream_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// tokens is a source of per-RPC credentials, asked for each attempt.
type tokens struct {
	asked atomic.Int32
	fails func(n int32) error // whether the n-th call fails
}

func (c *tokens) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if err := c.fails(c.asked.Add(1)); err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer token"}, nil
}

func (c *tokens) RequireTransportSecurity() bool { return false }

// errNoToken is what a token source says that cannot be reached.
var errNoToken = errors.New("the token service does not answer")

// only returns a function that fails for these calls.
func only(err error, which ...int32) func(int32) error {
	return func(n int32) error {
		for _, w := range which {
			if n == w {
				return err
			}
		}
		return nil
	}
}

// Credentials that cannot be had during an outage are worth another try. At the first open they are a mistake (invariant 33).
func TestCredentialsThatFail(t *testing.T) {
	t.Parallel()
	restricted := status.Error(codes.InvalidArgument, "a code that grpc does not pass on")
	for name, err := range map[string]error{"a plain error": errNoToken, "a restricted status": restricted} {
		t.Run(name+", during an outage", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &tokens{fails: only(err, 2, 3, 5)}
				w := scripted(t, stays(numbered(1)...), stays(numbered(2)...), stays(numbered(3)...))
				s := w.mustDial(acking(), withReplay(), stream.WithCallOptions(grpc.PerRPCCredentials(c)))
				mustReceive(t, s, 1)
				ended := receiving(s)
				for range 2 {
					w.Cut(testnet.RST)
					rest(time.Minute)
				}
				st := s.Stats()
				require.Equal(t, []uint64{3, 2}, []uint64{st.Deliveries, st.Outages}, "messages, and outages")
				require.Equal(t, int32(6), c.asked.Load(), "asked for each attempt")
				require.Contains(t, st.LastError.Error(), map[bool]string{true: errNoToken.Error(), false: "illegal status"}[err == errNoToken]) //nolint:errorlint // which of two
				goesOn(t, ended)
			})
		})
		t.Run(name+", at the first open", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &tokens{fails: func(int32) error { return err }}
				_, openErr := scripted(t, stays()).dial(t.Context(), acking(), stream.WithCallOptions(grpc.PerRPCCredentials(c)))
				requireReason(t, openErr, stream.ReasonServer, "open")
				require.Equal(t, int32(1), c.asked.Load())
				require.Equal(t, "open", opOf(openErr))
			})
		})
	}
	t.Run("after connections that failed, at the first open", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c := &tokens{fails: func(int32) error { return errNoToken }}
			w := scripted(t, stays())
			w.Refuse(true)
			time.AfterFunc(time.Minute, func() { w.Refuse(false) })
			began := time.Now()
			_, openErr := w.dial(t.Context(), acking(), stream.WithCallOptions(grpc.PerRPCCredentials(c)))
			requireReason(t, openErr, stream.ReasonServer, "open")
			require.GreaterOrEqual(t, time.Since(began), time.Minute, "without a connection they are not asked")
		})
	})
}

// A token expires: credentials are asked again, once in a row.
func TestUnauthenticated(t *testing.T) {
	t.Parallel()
	expired := status.Error(codes.Unauthenticated, "token expired")
	tests := map[string]struct {
		handlers  []func(bidi) error
		delivered uint64
		goesOn    bool
	}{
		"at the first open":           {[]func(bidi) error{sends(expired)}, 0, false},
		"in mid-stream, once":         {[]func(bidi) error{sends(expired, numbered(1)...), stays(numbered(2)...)}, 2, true},
		"in mid-stream, and at once":  {[]func(bidi) error{sends(expired, numbered(1)...), sends(expired)}, 1, false},
		"again, after a message":      {[]func(bidi) error{sends(expired, numbered(1)...), sends(expired, numbered(2)...), stays(numbered(3)...)}, 3, true},
		"ten times, after a message":  {repeated(10, expired, stays(numbered(11)...)), 11, true},
		"at re-open":                  {[]func(bidi) error{sends(errGone, numbered(1)...), sends(expired), stays(numbered(2)...)}, 2, true},
		"at re-open, twice":           {[]func(bidi) error{sends(errGone, numbered(1)...), sends(expired), sends(expired)}, 1, false},
		"twice, with a break between": {[]func(bidi) error{sends(expired, numbered(1)...), sends(errGone), sends(expired)}, 1, false},
		"a server that never accepted": {
			[]func(bidi) error{sends(errGone), sends(errGone), sends(expired)}, 0, false,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &tokens{fails: func(int32) error { return nil }}
				s := scripted(t, test.handlers...).mustDial(acking(), stream.WithCallOptions(grpc.PerRPCCredentials(c)))
				ended := receiving(s)
				rest(5 * time.Minute)
				require.Equal(t, test.delivered, s.Stats().Deliveries)
				require.Equal(t, uint64(c.asked.Load()), s.Stats().Attempts, "credentials are asked for each attempt")
				if test.goesOn {
					goesOn(t, ended)
					return
				}
				wantEnd(t, <-ended, stream.ReasonServer, codes.Unauthenticated, "Recv")
			})
		})
	}
}

// repeated are so many handlers that send one message each, with the next number, and end with err; and then the last one.
func repeated(n uint64, err error, last func(bidi) error) []func(bidi) error {
	var handlers []func(bidi) error
	for seq := uint64(1); seq <= n; seq++ {
		handlers = append(handlers, sends(err, numbered(seq)...))
	}
	return append(handlers, last)
}

// WithAlsoResumable resumes it every time; a header is enough for a server to have accepted a stream.
func TestUnauthenticatedThatMayBeResumed(t *testing.T) {
	t.Parallel()
	expired := status.Error(codes.Unauthenticated, "token expired")
	t.Run("WithAlsoResumable", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, sends(expired), sends(expired), sends(expired), sends(nil, numbered(1)...)).
				mustDial(acking(), stream.WithAlsoResumable(codes.Unauthenticated))
			got, err := receiveAll(s)
			require.Equal(t, io.EOF, err)
			require.Equal(t, upTo(1), got)
		})
	})
	t.Run("a header alone", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			accepts := func(s bidi) error {
				if err := s.SendHeader(nil); err != nil {
					return err
				}
				return lasts(time.Second, expired)(s)
			}
			got, err := receiveAll(scripted(t, accepts, sends(nil, numbered(1)...)).mustDial(acking()))
			require.Equal(t, io.EOF, err)
			require.Equal(t, upTo(1), got)
		})
	})
}
