package unary_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/unary"
)

var _ interface {
	unary.AttemptObserver
	unary.RetryObserver
	unary.HedgeObserver
	unary.DeniedObserver
	unary.CallObserver
	unary.WarningObserver
} = everything{}

// everything has the method of each event, for the names of Hooks.
type everything struct{}

func (everything) OnAttempt(unary.Info, time.Duration, error) {}
func (everything) OnRetry(unary.Info)                         {}
func (everything) OnHedge(unary.Info)                         {}
func (everything) OnDenied(unary.Info, string, error)         {}
func (everything) OnCall(unary.Info, time.Duration, error)    {}
func (everything) OnWarning(string)                           {}

func TestHooksHaveTheNamesOfTheMethods(t *testing.T) {
	t.Parallel()
	hooks, methods := reflect.TypeFor[unary.Hooks](), reflect.TypeFor[everything]()
	require.Equal(t, methods.NumMethod(), hooks.NumField())
	for i := range methods.NumMethod() {
		_, has := hooks.FieldByName(methods.Method(i).Name)
		require.True(t, has, methods.Method(i).Name)
	}
}

func TestHooksAreTold(t *testing.T) {
	t.Parallel()
	var told []string
	hooks := unary.Hooks{
		OnAttempt: func(unary.Info, time.Duration, error) { told = append(told, "attempt") },
		OnRetry:   func(unary.Info) { told = append(told, "retry") },
		OnCall:    func(unary.Info, time.Duration, error) { told = append(told, "call") },
	}
	fails := func(context.Context, *request) (*response, error) { return nil, status.Error(codes.Unavailable, "no") }
	in := unary.ClientInterceptor(unary.WithObserver(hooks), unary.WithPolicies(
		retrypolicy.NewBuilder[any]().WithMaxRetries(1).Build()))
	invoker := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		_, err := fails(ctx, nil)
		return err
	}
	require.Error(t, in(t.Context(), "/a.B/C", &request{}, &response{}, nil, invoker))
	require.Equal(t, []string{"attempt", "retry", "attempt", "call"}, told)
}

func TestHooksWithoutAFunctionAreRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []unary.Observer{unary.Hooks{}, &unary.Hooks{}, (*unary.Hooks)(nil)} {
		require.ErrorContains(t, unary.Validate(unary.WithObserver(o)), "none of the observer interfaces")
	}
	require.NoError(t, unary.Validate(unary.WithObserver(&unary.Hooks{OnWarning: func(string) {}})))
}
