package stream

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// A function alone is an observer of its event, and of no other: nothing else is queued for it.
func TestEachHookIsOneObserver(t *testing.T) {
	t.Parallel()
	fields := reflect.TypeFor[Hooks]()
	var kinds eventSet
	servers := 0
	for i := range fields.NumField() {
		field := fields.Field(i)
		var hooks Hooks
		calls := 0
		reflect.ValueOf(&hooks).Elem().Field(i).Set(reflect.MakeFunc(field.Type, func([]reflect.Value) []reflect.Value {
			calls++
			return nil
		}))
		clients, onServers := hooks.forClients(), hooks.forServers()
		all := append(clients, onServers...)
		require.Len(t, all, 1, field.Name)
		method := reflect.ValueOf(all[0]).MethodByName(field.Name)
		require.True(t, method.IsValid(), "%s is called for another event", field.Name)
		args := make([]reflect.Value, method.Type().NumIn())
		for n := range args {
			args[n] = reflect.Zero(method.Type().In(n))
		}
		method.Call(args)
		require.Equal(t, 1, calls, field.Name)
		if len(onServers) > 0 {
			servers++
			require.True(t, observesServers(all[0]), field.Name)
			require.False(t, observes(all[0]), field.Name)
			require.Equal(t, field.Name == "OnServerEnded", needsCounts(all[0]), field.Name)
			continue
		}
		set := eventsOf(all[0])
		require.NotZero(t, set, field.Name)
		require.Zero(t, set&(set-1), "%s is one event", field.Name)
		require.Zero(t, set&kinds, "%s is an event of its own", field.Name)
		kinds |= set
	}
	require.Equal(t, eventSet(1<<(eventClosed+1)-1), kinds, "each event has a function")
	require.Equal(t, 4, servers)
}

// What nobody asks for is not queued, so it is neither counted as dropped nor does it wake a goroutine.
func TestEventsThatNobodyWantsAreNotMade(t *testing.T) {
	t.Parallel()
	hooks := Hooks{OnClosed: func(Info, error) {}}
	ev := &events{name: "x"}
	ev.start(newStreamID(), hooks.forClients())
	ev.delivering = true // so that what is queued stays
	for range 2 * maxEvents {
		ev.publish(event{kind: eventDuplicate, attempt: 7})
	}
	require.Zero(t, ev.waiting.Len())
	require.Zero(t, ev.droppedEvents())
	ev.publish(event{kind: eventClosed})
	e, ok := ev.next()
	require.True(t, ok)
	require.Equal(t, uint64(7), e.attempt, "the attempt of the newest event, told or not")
}
