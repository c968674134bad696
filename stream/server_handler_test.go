package stream_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/stream"
)

// early is options with which a handler runs in a goroutine of its own.
func early() []stream.ServerOption { return []stream.ServerOption{stream.WithIdleTimeout(time.Hour)} }

// A handler that is blocked in a call returns as soon as the stream is ended, over both transports.
func TestAnEndWakesAHandler(t *testing.T) {
	t.Parallel()
	for transport, start := range transports {
		for name, block := range blocks {
			if transport == "ServeHTTP" && name == "Send" {
				continue // net/http blocks in the write, and with it grpc: only the client can end that
			}
			t.Run(transport+", "+name, func(t *testing.T) {
				t.Parallel()
				returned := make(chan error, 1)
				causes := make(chan error, 1)
				at := time.Now().Add(200 * time.Millisecond)
				until := func(context.Context) (time.Time, bool) { return at, true }
				h := start(t, func(s bidi) error {
					err := block(s)
					causes <- context.Cause(s.Context())
					returned <- err
					return err
				}, stream.WithAuthorizationUntil(until))
				s := h.call(t.Context())
				requireEnded(t, within(t, returned, "the handler"), stream.EndUnauthorized)
				requireEnded(t, within(t, causes, "the cause"), stream.EndUnauthorized)
				require.Less(t, time.Since(at), 5*time.Second)
				end := endOf(t, s)
				require.Equal(t, codes.Unauthenticated, end.Code(), end.Message())
				require.Contains(t, end.Message(), "WithAuthorizationUntil")
				require.Equal(t, []string{"unauthorized"}, s.Trailer().Get("streamsafe-end"))
			})
		}
	}
}

// Invariant 48: every way out of a handler ends the call.
func TestEveryWayOutOfAHandlerEndsTheCall(t *testing.T) {
	t.Parallel()
	ways := map[string]struct {
		handler func(bidi) error
		code    codes.Code
		text    string
	}{
		"OK":      {func(bidi) error { return nil }, codes.OK, ""},
		"error":   {func(bidi) error { return errNever }, codes.Unknown, "never"},
		"Goexit":  {func(bidi) error { runtime.Goexit(); return nil }, codes.Internal, "xited"},
		"panic":   {func(bidi) error { panic("help") }, codes.Internal, "recovered: "}, //nolint:forbidigo // that is the test
		"trailer": {func(s bidi) error { return grpc.SetTrailer(s.Context(), metadata.Pairs("a", "b")) }, codes.OK, ""},
	}
	for transport, start := range transports {
		for kind, opts := range map[string][]stream.ServerOption{"apart": early(), "in place": {stream.WithServerCounters(new(stream.ServerCounters))}} {
			for name, way := range ways {
				t.Run(transport+", "+kind+", "+name, func(t *testing.T) {
					t.Parallel()
					h := start(t, way.handler, opts...)
					s := h.call(t.Context())
					end := endOf(t, s)
					if name == "OK" || name == "trailer" {
						require.Equal(t, "EOF", end.Message())
						return
					}
					require.Equal(t, way.code, end.Code(), end.Message())
					if name == "Goexit" && kind == "apart" {
						require.Contains(t, end.Message(), "Goexit")
						return
					}
					require.Contains(t, strings.ToLower(end.Message()), strings.ToLower(way.text))
				})
			}
		}
	}
}

func handlerThatPanics(bidi) error { panic(errNever) } //nolint:forbidigo // that is the test

// An interceptor for recovery sees the handler's own stack, and its error.
func TestAPanicHasTheStackOfTheHandler(t *testing.T) {
	t.Parallel()
	seen := make(chan any, 1)
	h := hostsGRPC(t, handlerThatPanics, grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
			defer func() { seen <- recover(); err = errNever }()
			return handler(srv, ss)
		}, stream.ServerInterceptor(early()...)))
	endOf(t, h.call(t.Context()))
	err, ok := within(t, seen, "the panic").(error)
	require.True(t, ok)
	require.ErrorIs(t, err, errNever)
	require.Contains(t, err.Error(), "handlerThatPanics", "the report names the function")
	var panicked *stream.PanicError
	require.ErrorAs(t, err, &panicked)
	require.Equal(t, errNever, panicked.Value)
}

// net/http knows this one by its value.
func TestAbortHandlerStaysAsItIs(t *testing.T) {
	t.Parallel()
	seen := make(chan any, 1)
	h := hostsGRPC(t, func(bidi) error { panic(http.ErrAbortHandler) }, grpc.ChainStreamInterceptor( //nolint:forbidigo // that is the test
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
			defer func() { seen <- recover(); err = errNever }()
			return handler(srv, ss)
		}, stream.ServerInterceptor(early()...)))
	endOf(t, h.call(t.Context()))
	require.Equal(t, any(http.ErrAbortHandler), within(t, seen, "the panic"))
}

// A handler that goes on after its end can neither send nor receive, and its panic harms nobody.
func TestAHandlerAfterItsEnd(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]func(){
		"returns": func() {}, "panics": func() { panic("late") }, "exits": runtime.Goexit, //nolint:forbidigo // that is the test
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told, ended := make(chan error, 2), make(chan struct{})
			h := hosts(t, func(s bidi) error {
				<-s.Context().Done()
				<-ended
				told <- s.Send(frame{kind: data, seq: 1}.response())
				_, err := s.Recv()
				told <- err
				after()
				return nil
			}, stream.WithAuthorizationUntil(func(context.Context) (time.Time, bool) { return time.Now().Add(10 * time.Millisecond), true }))
			s := h.call(t.Context())
			require.NoError(t, s.Send(frame{kind: data, seq: 1}.request()))
			require.Equal(t, codes.Unauthenticated, endOf(t, s).Code())
			close(ended)
			requireEnded(t, within(t, told, "what Send says"), stream.EndUnauthorized)
			requireEnded(t, within(t, told, "what Recv says"), stream.EndUnauthorized)
			require.NoError(t, h.call(t.Context()).CloseSend(), "the server lives")
		})
	}
}

func TestAnAuthorizationThatIsOverIsRefused(t *testing.T) {
	t.Parallel()
	h := hosts(t, func(bidi) error { return errNever },
		stream.WithAuthorizationUntil(func(context.Context) (time.Time, bool) { return time.Now(), true }))
	require.Equal(t, codes.Unauthenticated, endOf(t, h.call(t.Context())).Code())
	h = hosts(t, func(bidi) error { return errNever },
		stream.WithAuthorizationUntil(func(context.Context) (time.Time, bool) { return time.Time{}, false }))
	require.Equal(t, codes.Unknown, endOf(t, h.call(t.Context())).Code())
}

func TestWrongServerOptions(t *testing.T) {
	t.Parallel()
	err := stream.Validate(nil, stream.WithObserver(1))
	require.ErrorContains(t, err, "an option is nil")
	require.ErrorContains(t, err, "observer int implements none")
	h := hostsGRPC(t, func(bidi) error { return nil }, grpc.StreamInterceptor(stream.ServerInterceptor(nil)))
	end := endOf(t, h.call(t.Context()))
	require.Equal(t, codes.Internal, end.Code())
	require.Contains(t, end.Message(), "an option is nil")
	h = hostsGRPC(t, func(s bidi) error {
		wrapped := stream.WrapServerStream(s, nil)
		_, sent := wrapped.Context(), wrapped.SendMsg(frame{}.response())
		return errors.Join(sent, wrapped.RecvMsg(new(request)))
	})
	require.Contains(t, endOf(t, h.call(t.Context())).Message(), "an option is nil")
}
