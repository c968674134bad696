package unary

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// newExecution returns an execution in a scope of the call.
func newExecution(t *testing.T) *execution {
	t.Helper()
	c := &call{scope: scope{ctx: t.Context()}}
	return &execution{call: c, scope: &c.scope}
}

// The first result of a cancelled scope stays: a hedge that wins after a timeout does not make the call a success.
func TestCancelKeepsTheFirstResult(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := &result{Error: errors.New("first")}, &result{Result: "second"}
		for name, enter := range map[string]func(*execution){
			"hedge":               func(e *execution) { e.enterScope(0, false) },
			"timeout":             func(e *execution) { e.enterScope(time.Second, true) },
			"listener":            func(e *execution) { e.enterScope(time.Second, true); e.scope.fired = make(chan struct{}) },
			"listener, too early": func(e *execution) { e.enterScope(time.Hour, true); e.scope.fired = make(chan struct{}) },
		} {
			e := newExecution(t)
			enter(e)
			if name != "listener, too early" {
				time.Sleep(time.Second)
			}
			e.Cancel(first)
			e.Cancel(second)
			require.Equal(t, first, e.scope.result, name)
			require.Equal(t, first.Error, e.lastError, name)
		}
		e := newExecution(t)
		e.enterScope(0, false)
		e.scope.cancel()
		e.Cancel(second)
		require.Nil(t, e.scope.result, "what has ended already gets no result")
	})
}

// failsafe-go's timer may be a moment earlier than that of the context, which is for the same instant. The context then
// still ends by its deadline: to the attempt that is DEADLINE_EXCEEDED, and not CANCELLED.
func TestATimeoutsContextEndsByItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newExecution(t)
		e.enterScope(time.Second, true)
		e.scope.fired = make(chan struct{})
		e.Cancel(&result{})
		require.NoError(t, e.scope.ctx.Err())
		<-e.scope.fired
	})
}
