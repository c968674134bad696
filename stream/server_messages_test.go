package stream_test

import (
	"errors"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/stream"
)

// A limiter denies after headers and messages were sent: the client gets its code, with a RetryInfo.
func TestServerMessagePolicies(t *testing.T) {
	t.Parallel()
	send := func(s bidi) error {
		for {
			if err := s.Send(frame{kind: data}.response()); err != nil {
				return err
			}
		}
	}
	receive := func(s bidi) error {
		for {
			if _, err := s.Recv(); err != nil {
				return err
			}
		}
	}
	open := circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).Build()
	open.Open()
	for name, c := range map[string]struct {
		handler func(bidi) error
		option  stream.ServerOption
		code    codes.Code
	}{
		"send, limiter": {send, stream.WithSendPolicies(ratelimiter.NewBursty[any](3, time.Hour)), codes.ResourceExhausted},
		"recv, limiter": {receive, stream.WithRecvPolicies(ratelimiter.NewBursty[any](3, time.Hour)), codes.ResourceExhausted},
		"send, breaker": {send, stream.WithSendPolicies(open), codes.Unavailable},
	} {
		for kind, opts := range map[string][]stream.ServerOption{"apart": early(), "in place": nil} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				h := hosts(t, c.handler, append(opts, c.option)...)
				s := h.call(t.Context())
				for range 5 {
					_ = s.Send(frame{kind: data}.request()) // the stream may have ended
				}
				end := endOf(t, s)
				require.Equal(t, c.code, end.Code(), end.Message())
				require.Contains(t, end.Message(), "stream: message denied")
				require.NotEmpty(t, end.Details(), "RetryInfo")
			})
		}
	}
}

// A denial breaks nothing: a handler may go on.
func TestAHandlerGoesOnAfterADenial(t *testing.T) {
	t.Parallel()
	h := hosts(t, func(s bidi) error {
		denied := 0
		for range 5 {
			if err := s.Send(frame{kind: data, seq: 1}.response()); errors.Is(err, ratelimiter.ErrExceeded) {
				denied++
			}
		}
		if denied != 3 {
			return errNever
		}
		return nil
	}, stream.WithSendPolicies(ratelimiter.NewBursty[any](2, time.Hour)))
	s := h.call(t.Context())
	for range 2 {
		_, err := s.Recv()
		require.NoError(t, err)
	}
	require.Equal(t, "EOF", endOf(t, s).Message())
}

func TestMessagePoliciesThatAServerDoesNotTake(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, stream.Validate(stream.WithSendPolicies(timeout.New[any](time.Second))), "WithSendPolicies: a server takes")
	require.ErrorContains(t, stream.Validate(stream.WithRecvPolicies(retrypolicy.NewWithDefaults[any]())), "WithRecvPolicies: a server takes")
	require.Error(t, stream.Validate(stream.WithRecvPolicies()))
}
