package stream_test

import (
	"context"
	"go/ast"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream"
)

// hooks returns the diary as functions.
func (d *diary) hooks() stream.Hooks {
	var h stream.Hooks
	fields, methods := reflect.ValueOf(&h).Elem(), reflect.ValueOf(d)
	for i := range fields.NumField() {
		if m := methods.MethodByName(fields.Type().Field(i).Name); m.IsValid() {
			fields.Field(i).Set(m)
		}
	}
	return h
}

// Each observer interface of one method has a function in Hooks, with the name of the method, and its parameters.
func TestHooksHaveEachEvent(t *testing.T) {
	t.Parallel()
	hooks := reflect.TypeFor[stream.Hooks]()
	events := 0
	for _, f := range sources(t) {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !strings.HasSuffix(spec.Name.Name, "Observer") {
				return true
			}
			if i, ok := spec.Type.(*ast.InterfaceType); ok {
				name := i.Methods.List[0].Names[0].Name
				if !strings.HasPrefix(name, "On") {
					return true // it is asked, and not told
				}
				events++
				require.Equal(t, "On"+strings.TrimSuffix(spec.Name.Name, "Observer"), name)
				_, has := hooks.FieldByName(name)
				require.True(t, has, name)
			}
			return true
		})
	}
	require.Equal(t, hooks.NumField(), events)
}

func TestHooksAreToldAsObserversAre(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone, numbered(1)...), sends(nil, numbered(1, 2)...))
		var d, byHooks, byPointer diary
		hooks, pointed := byHooks.hooks(), byPointer.hooks()
		s := w.mustDial(positions(), stream.WithObserver(&d), stream.WithObserver(hooks), stream.WithObserver(&pointed))
		_, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		synctest.Wait()
		require.NotEmpty(t, d.names())
		require.Equal(t, d.notes, byHooks.notes)
		require.Equal(t, d.notes, byPointer.notes)
	})
}

// Hooks without a function for this side are refused, as an observer without a method is.
func TestHooksWithoutAFunctionAreRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays())
		onServers := stream.Hooks{OnServerOpened: func(stream.ServerInfo) {}}
		onClients := stream.Hooks{OnOpened: func(stream.Info) {}}
		for name, o := range map[string]stream.Observer{
			"empty": stream.Hooks{}, "nil": (*stream.Hooks)(nil), "for servers": onServers,
		} {
			_, err := w.dial(t.Context(), positions(), stream.WithObserver(o))
			require.ErrorContains(t, err, "implements none of the observer interfaces", name)
		}
		require.ErrorContains(t, stream.Validate(stream.WithObserver(onClients)), "none of the observer interfaces for servers")
		require.NoError(t, stream.Validate(stream.WithObserver(onServers)))
	})
}

func TestHooksOfAServer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []string
	done := make(chan stream.ServerSummary, 1)
	h := hosts(t, func(s bidi) error { return s.Send(frame{}.response()) }, stream.WithObserver(stream.Hooks{
		OnServerOpened: func(i stream.ServerInfo) { mu.Lock(); defer mu.Unlock(); told = append(told, "opened "+i.Method) },
		OnServerEnded:  func(_ stream.ServerInfo, s stream.ServerSummary) { done <- s },
		OnOpened:       func(stream.Info) { panic("on the wrong side") }, //nolint:forbidigo // that is the test
	}))
	endOf(t, h.call(t.Context()))
	summary := within(t, done, "OnServerEnded")
	require.Equal(t, uint64(1), summary.Sent, "messages are counted for it")
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{"opened " + fullDuplex}, told)
}

// spy notes what a StreamObserver and an AttemptObserver see.
type spy struct {
	mu       sync.Mutex // guards the fields below
	streams  []*stream.Observed
	contexts []context.Context
	attempts []stream.Info
	own      stream.Observer
}

type attemptMark struct{}

func (s *spy) ObserveStream(ctx context.Context, o *stream.Observed) stream.Observer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams, s.contexts = append(s.streams, o), append(s.contexts, ctx)
	return s.own
}

func (s *spy) ObserveAttempt(ctx context.Context, info stream.Info) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts = append(s.attempts, info)
	return context.WithValue(ctx, attemptMark{}, info.Attempt)
}

func TestAStreamObserverHasAnObserverForEachStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone, numbered(1)...), sends(nil, numbered(1, 2)...))
		var d diary
		o := &spy{own: d.hooks()}
		var marks []any
		cb := positions()
		resume := cb.Resume
		cb.Resume = func(ctx context.Context, r *stream.Resumption[request, response]) error {
			marks = append(marks, ctx.Value(attemptMark{}))
			return resume(ctx, r)
		}
		s := w.mustDial(cb, stream.WithObserver(o), stream.WithName("prices"))
		require.Len(t, o.streams, 1)
		seen := o.streams[0]
		require.Equal(t, "prices", seen.Name)
		require.NotZero(t, seen.ID)
		require.Equal(t, s.State(), seen.State())
		_ = seen.Stats() // before the messages
		_, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		synctest.Wait()
		require.Equal(t, uint64(3), seen.Stats().Received)
		require.True(t, seen.Stats().LastMessage.IsZero(), "to look makes no message dearer")
		require.Equal(t, "closed", d.names()[len(d.names())-1])
		require.Len(t, d.of("closed"), 1)
		for _, n := range d.notes {
			require.Equal(t, seen.ID, n.info.Stream)
		}
		require.Len(t, o.attempts, 2)
		require.Equal(t, []any{uint64(1), uint64(2)}, marks, "what an observer puts into the context of an attempt is there")
		require.Error(t, o.contexts[0].Err(), "the context of the stream is done")
	})
}

// With metadata, observers know the stream by the id that the server has.
func TestObserversKnowTheIDThatTheServerHas(t *testing.T) {
	t.Parallel()
	told := make(chan stream.StreamID, 1)
	h := hosts(t, func(s bidi) error {
		attempt, _ := stream.AttemptFrom(s.Context())
		told <- attempt.Stream
		<-s.Context().Done()
		return nil
	})
	o := &spy{}
	s, err := stream.Resilient(t.Context(), h.client.FullDuplexCall, stream.Callbacks[request, response]{},
		stream.WithObserver(o), stream.WithResumeMetadata())
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	require.Equal(t, within(t, told, "the handler"), o.streams[0].ID)
	require.Empty(t, o.streams[0].Method(), "nobody has told it")
}

// serverSpy is a ServerStreamObserver.
type serverSpy struct {
	streams chan *stream.ServerObserved
	own     stream.Observer
}

func (s serverSpy) ObserveServerStream(o *stream.ServerObserved) stream.Observer {
	s.streams <- o
	return s.own
}

func TestAServerStreamObserverHasAnObserverForEachStream(t *testing.T) {
	t.Parallel()
	ended := make(chan stream.ServerSummary, 2)
	o := serverSpy{
		streams: make(chan *stream.ServerObserved, 2),
		own:     stream.Hooks{OnServerEnded: func(_ stream.ServerInfo, s stream.ServerSummary) { ended <- s }},
	}
	h := hosts(t, func(s bidi) error {
		for {
			if _, err := s.Recv(); err != nil {
				return nil //nolint:nilerr // the client is through
			}
		}
	}, stream.WithObserver(o))
	for range 2 {
		s := h.call(t.Context())
		require.NoError(t, s.Send(frame{}.request()))
		seen := within(t, o.streams, "the stream")
		require.Equal(t, fullDuplex, seen.Method)
		require.Eventually(t, func() bool { received, _ := seen.Messages(); return received == 1 }, patience(), time.Millisecond,
			"messages are counted while the stream lives")
		require.NoError(t, s.CloseSend())
		endOf(t, s)
		require.Equal(t, uint64(1), within(t, ended, "the end, once for each stream").Received)
		require.Nil(t, seen.EndedEarly())
	}
}
