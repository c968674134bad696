package stream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// host is a server over real TCP.
type host struct {
	t       *testing.T
	address string
	server  *grpc.Server
	client  testpb.TestServiceClient
	conn    *grpc.ClientConn
}

// transports are the two that grpc has on servers.
var transports = map[string]func(*testing.T, func(bidi) error, ...stream.ServerOption) *host{
	"grpc": hosts, "ServeHTTP": hostsHTTP,
}

// hosts starts a server that runs handler under a ServerInterceptor with opts.
func hosts(t *testing.T, handler func(bidi) error, opts ...stream.ServerOption) *host {
	t.Helper()
	require.NoError(t, stream.Validate(opts...))
	return hostsGRPC(t, handler, grpc.ChainStreamInterceptor(recovers(t), stream.ServerInterceptor(opts...)))
}

func hostsGRPC(t *testing.T, handler func(bidi) error, opts ...grpc.ServerOption) *host {
	t.Helper()
	server := grpc.NewServer(opts...)
	testpb.RegisterTestServiceServer(server, &feed{handler: handler})
	return (&host{t: t}).serves(server)
}

// serves returns a host that runs server.
func (h *host) serves(server *grpc.Server) *host {
	t := h.t
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h = &host{t: t, address: listener.Addr().String(), server: server}
	var running sync.WaitGroup
	running.Go(func() { _ = h.server.Serve(listener) }) // ends with the server
	t.Cleanup(func() { h.server.Stop(); running.Wait() })
	h.conn, h.client = h.dial()
	return h
}

// hostsHTTP is hosts, over h2c and the server of net/http.
func hostsHTTP(t *testing.T, handler func(bidi) error, opts ...stream.ServerOption) *host {
	t.Helper()
	require.NoError(t, stream.Validate(opts...))
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(grpc.ChainStreamInterceptor(recovers(t), stream.ServerInterceptor(opts...)))
	h := &host{t: t, address: listener.Addr().String(), server: server}
	testpb.RegisterTestServiceServer(h.server, &feed{handler: handler})
	web := &http.Server{Handler: h.server, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	web.Protocols.SetUnencryptedHTTP2(true)
	var running sync.WaitGroup
	running.Go(func() { _ = web.Serve(listener) }) // ends with the server
	t.Cleanup(func() { _ = web.Close(); running.Wait() })
	h.conn, h.client = h.dial()
	return h
}

// dial returns another client of the host.
func (h *host) dial(opts ...grpc.DialOption) (*grpc.ClientConn, testpb.TestServiceClient) {
	h.t.Helper()
	conn, err := grpc.NewClient(h.address, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)...)
	require.NoError(h.t, err)
	h.t.Cleanup(func() { _ = conn.Close() })
	return conn, testpb.NewTestServiceClient(conn)
}

// call opens a stream, which ends with the test.
func (h *host) call(ctx context.Context) testpb.TestService_FullDuplexCallClient {
	h.t.Helper()
	s, err := h.client.FullDuplexCall(ctx)
	require.NoError(h.t, err)
	return s
}

// recovers makes an INTERNAL of a panic, with what it was in the text.
func recovers(*testing.T) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = status.Error(codes.Internal, fmt.Sprintf("recovered: %v", p))
			}
		}()
		return handler(srv, ss)
	}
}

// endOf receives until the stream ends, and returns how.
func endOf(t *testing.T, s testpb.TestService_FullDuplexCallClient) *status.Status {
	t.Helper()
	err := within(t, async(func() error {
		for {
			if _, err := s.Recv(); err != nil {
				return err
			}
		}
	}), "the end of a stream")
	return status.Convert(err)
}

// requireEnded sees that err is the early end of a stream.
func requireEnded(t *testing.T, err error, end stream.End) {
	t.Helper()
	var ended *stream.EndedError
	require.ErrorAs(t, err, &ended)
	require.Equal(t, end, ended.End)
	require.Contains(t, ended.Error(), "stream: ")
}

// blocks are the ways in which a handler can wait for the client for ever.
var blocks = map[string]func(bidi) error{
	"Recv": func(s bidi) error {
		_, err := s.Recv()
		return err
	},
	"Send": func(s bidi) error { // the client does not read
		for {
			if err := s.Send(frame{kind: data, size: 32 << 10}.response()); err != nil {
				return err
			}
		}
	},
	"Context": func(s bidi) error {
		<-s.Context().Done()
		return context.Cause(s.Context())
	},
}

var errNever = errors.New("never")
