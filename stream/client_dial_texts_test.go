package stream_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

func insecureCredentials() credentials.TransportCredentials { return insecure.NewCredentials() }

// certificate makes a certificate for feed.example, and the pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "feed.example"}, DNSNames: []string{"feed.example"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), // a bubble begins in 2000
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// unreachable are the ways in which a server may be out of reach, and the words that the application has to read.
func unreachable(t *testing.T) map[string]struct {
	server []grpc.ServerOption
	creds  credentials.TransportCredentials
	dial   []grpc.DialOption
	words  []string
} {
	t.Helper()
	own, trusted := certificate(t)
	_, others := certificate(t)
	client := func(pool *x509.CertPool, name string) credentials.TransportCredentials {
		return credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS12})
	}
	secure := []grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(&own))}
	return map[string]struct {
		server []grpc.ServerOption
		creds  credentials.TransportCredentials
		dial   []grpc.DialOption
		words  []string
	}{
		"refused": {nil, insecure.NewCredentials(), nil, []string{"connection refused", "passthrough:///memory"}},
		"wrong host": {nil, insecure.NewCredentials(), []grpc.DialOption{grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "feed.example", IsNotFound: true}
		})}, []string{"lookup feed.example: no such host", "passthrough:///memory"}},
		"TLS against plain text": {nil, client(trusted, "feed.example"), nil, []string{"first record does not look like a TLS handshake", "passthrough:///memory"}},
		"plain text against TLS": {secure, insecure.NewCredentials(), nil, []string{"error reading server preface", "passthrough:///memory"}},
		"wrong CA":               {secure, client(others, "feed.example"), nil, []string{"certificate signed by unknown authority", "passthrough:///memory"}},
		"wrong name":             {secure, client(trusted, "other.example"), nil, []string{"certificate is valid for feed.example, not other.example"}},
	}
}

// Each of them is told in the error, with the name of the target, whatever ends the wait; and to observers, once, and in Stats.
func TestTheErrorTellsWhatTheConnectionWaitsFor(t *testing.T) {
	t.Parallel()
	for name, reason := range unreachable(t) {
		for how, test := range map[string]struct {
			opts   []stream.ClientOption
			limit  time.Duration
			reason stream.Reason
			code   codes.Code
		}{
			"the context ends":   {nil, 30 * time.Second, stream.ReasonContext, codes.DeadlineExceeded},
			"the outage is long": {[]stream.ClientOption{stream.WithMaxOutage(20 * time.Second)}, time.Hour, stream.ReasonMaxOutage, codes.Unavailable},
			"a policy gives up": {[]stream.ClientOption{
				stream.WithOpenPolicies(timeout.New[any](10 * time.Second)),
				stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithMaxRetries(1).Build()),
			}, time.Hour, stream.ReasonPolicy, codes.DeadlineExceeded},
			"resuming is off": {[]stream.ClientOption{stream.WithoutResume()}, 30 * time.Second, stream.ReasonContext, codes.DeadlineExceeded},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, &feed{handler: stays(), options: reason.server}, stream.DialOptions(reason.creds, reason.dial...)...)
					w.Refuse(name == "refused")
					ctx, cancel := context.WithTimeout(t.Context(), test.limit)
					defer cancel()
					var d diary
					_, err := w.dial(ctx, acking(), append(test.opts, stream.WithObserver(&d))...)
					requireReason(t, err, test.reason, how)
					require.Equal(t, "open", opOf(err))
					for _, word := range reason.words {
						require.ErrorContains(t, err, word)
					}
					synctest.Wait()
					waiting := d.of("waiting")
					require.NotEmpty(t, waiting)
					told := map[uint64]int{}
					for _, e := range waiting {
						told[e.info.Attempt]++
						require.Equal(t, 1, told[e.info.Attempt], "once in each attempt, as nothing changes")
						for _, word := range reason.words {
							require.ErrorContains(t, e.cause, word)
						}
					}
				})
			})
		}
	}
}

// In an outage after messages have flowed, Recv and Send tell it, too, and Stats before that.
func TestTheErrorTellsWhatTheConnectionWaitsForInMidStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := dialled(t, &feed{handler: stays()})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var d diary
		s, err := w.dial(ctx, acking(), stream.WithAtMostOnceSends(), stream.WithObserver(&d))
		require.NoError(t, err)
		recv, send := blocked(s)
		rest(time.Minute)
		w.Refuse(true)
		w.Cut(testnet.RST)
		rest(20 * time.Second)
		require.ErrorContains(t, s.Stats().LastError, "no connection to passthrough:///memory: connection error")
		require.Equal(t, uint64(2), s.Stats().Attempts)
		require.Len(t, d.of("waiting"), 1)
		for op, ended := range map[string]<-chan error{"recv": recv, "send": send} {
			err := within(t, ended, op)
			requireReason(t, err, stream.ReasonContext, op)
			require.ErrorContains(t, err, "(last: ")
			require.ErrorContains(t, err, "no connection to passthrough:///memory: connection error")
			require.ErrorContains(t, err, "connection refused")
		}
	})
}

// An attempt that did not wait is not said to have waited.
func TestNothingIsSaidToWaitIfItDoesNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := dialled(t, &feed{handler: one})
		w.Refuse(true)
		time.AfterFunc(time.Minute, func() { w.Refuse(false) })
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cb := greeting()
		cb.Resume = func(ctx context.Context, _ *resumption) error { <-ctx.Done(); return ctx.Err() }
		_, err := w.dial(ctx, cb)
		requireReason(t, err, stream.ReasonContext, "Resume hangs")
		require.NotContains(t, err.Error(), "connection refused")
	})
}

// A resolver that finds nothing is told with the name of the target.
func TestAnUnknownHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nowhere := manual.NewBuilderWithScheme("nowhere")
		nowhere.BuildCallback = func(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) {
			cc.ReportError(errors.New("no such host"))
		}
		conn, err := stream.NewConn("nowhere:///feed.example:443", insecure.NewCredentials(), grpc.WithResolvers(nowhere))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = stream.Resilient(ctx, testpb.NewTestServiceClient(conn).FullDuplexCall, greeting())
		requireReason(t, err, stream.ReasonContext, "an unknown host")
		require.ErrorContains(t, err, "no connection to nowhere:///feed.example:443: ")
		require.ErrorContains(t, err, "no such host")
	})
}

// Without credentials there is no connection, and grpc says so.
func TestDialOptionsWithoutCredentials(t *testing.T) {
	t.Parallel()
	_, err := stream.NewConn("passthrough:///nowhere", nil)
	require.ErrorContains(t, err, "no transport security set")
}
