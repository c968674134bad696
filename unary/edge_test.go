package unary_test

import (
	"context"
	"errors"
	"testing"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
	"github.com/streamsafe/streamsafe/unary"
)

// What the caller cancelled its context with is part of the error.
func TestCancelCause(t *testing.T) {
	t.Parallel()
	reason := errors.New("the user has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	_, err := call(ctx, unary.ClientInterceptor(unary.WithPolicies(retrypolicy.NewWithDefaults[any]())), fails(codes.OK))
	require.Equal(t, codes.Canceled, status.Code(err))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, reason)
}

// Details of the last failure's status are there when retries are exceeded, and what the reply said is not in the text.
func TestErrorText(t *testing.T) {
	t.Parallel()
	hinted := rpcstatus.WithRetryInfo(status.New(codes.Unavailable, "later"), 1).Err()
	_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(retrypolicy.NewWithDefaults[any]())),
		func(_ context.Context, reply *response, _ []grpc.CallOption) error {
			reply.Username = "secret"
			return hinted
		})
	require.Len(t, status.Convert(err).Details(), 1)
	require.Contains(t, err.Error(), "later")
	require.NotContains(t, err.Error(), "secret")
	require.NotContains(t, status.Convert(err).Message(), "secret")
	exceeded, ok := errors.AsType[retrypolicy.ExceededError](err)
	require.True(t, ok)
	require.Equal(t, hinted, exceeded.LastError, "the server's own error")

	_, err = call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(
		retrypolicy.NewBuilder[any]().HandleIf(func(any, error) bool { return true }).Build())),
		func(_ context.Context, reply *response, _ []grpc.CallOption) error {
			reply.Username = "secret"
			return nil
		})
	require.Equal(t, codes.Unknown, status.Code(err))
	require.NotContains(t, err.Error(), "secret")

	require.Equal(t, codes.Unknown, status.Code(&unary.Error{Cause: errors.New("made by hand")}))
	require.Equal(t, codes.Internal, status.Code(&unary.PanicError{Value: "boom"}))
}

// stranger is a policy that failsafe-go did not make.
type stranger struct{ executor any }

func (s stranger) ToExecutor(any) any { return s.executor }

func TestPoliciesThatCannotRun(t *testing.T) {
	t.Parallel()
	_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(stranger{executor: "nonsense"})), fails(codes.OK))
	require.ErrorContains(t, err, "makes no failsafe executor")
	for name, option := range map[string]unary.Option{
		"policies": unary.WithPolicies(stranger{executor: retrypolicy.NewWithDefaults[any]().ToExecutor(nil)}),
		"executor": unary.WithExecutor(failsafe.With[any](stranger{executor: retrypolicy.NewWithDefaults[any]().ToExecutor(nil)})),
	} {
		_, err := call(t.Context(), unary.ClientInterceptor(option), fails(codes.OK))
		require.NoError(t, err, name)
		err = unary.ClientInterceptor(option)(t.Context(), method, nil, "no pointer", nil,
			func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil })
		require.Equal(t, codes.Internal, status.Code(err), name)
	}
}
