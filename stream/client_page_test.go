package stream_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 33: what a proxy's page says is not the server's last word, unless no gRPC server has ever answered.

// page is what an HTTP server answers that knows no gRPC.
type page struct {
	status      int
	contentType string
	code        codes.Code // what grpc makes of it
	wrong       bool       // the address or the key is wrong, if no gRPC server has answered before
}

func pages() []page {
	return []page{
		{http.StatusBadRequest, "text/html", codes.Internal, false},
		{http.StatusUnauthorized, "text/html", codes.Unauthenticated, true},
		{http.StatusForbidden, "text/plain", codes.PermissionDenied, true},
		{http.StatusNotFound, "text/html", codes.Unimplemented, true},
		{http.StatusTooManyRequests, "application/json", codes.Unavailable, false},
		{http.StatusInternalServerError, "text/html", codes.Unknown, false},
		{http.StatusBadGateway, "text/html", codes.Unavailable, false},
		{http.StatusServiceUnavailable, "text/html", codes.Unavailable, false},
		{http.StatusGatewayTimeout, "text/html", codes.Unavailable, false},
		{http.StatusOK, "text/html", codes.Unknown, false},
	}
}

// serve answers everything on listener with the page, until stop is called.
func (p page) serve(listener net.Listener) (stop func()) {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Protocols: protocols,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", p.contentType)
			w.WriteHeader(p.status)
			_, _ = io.WriteString(w, "<html>this is no gRPC</html>")
		}),
	}
	go func() { _ = server.Serve(listener) }() // ends when stop is called
	return func() { _ = server.Close() }
}

// waysToOpen are the two phases in which a stream may meet a page: in Resume, or when messages flow.
func waysToOpen() map[string]callbacks {
	waits := (&feed{}).callbacks()
	return map[string]callbacks{"in Resume": waits, "in mid-stream": acking()}
}

// A page comes in place of the second attempt, and of some more. The stream goes on after it.
func TestAPageInMidLife(t *testing.T) {
	t.Parallel()
	for _, p := range pages() {
		for phase, cb := range waysToOpen() {
			t.Run(fmt.Sprintf("%d %s", p.status, phase), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, &feed{total: 3})
					if phase != "in Resume" {
						w.feed.handler = inOrder(stays(numbered(1, 2)...), stays(numbered(3)...))
					}
					s := w.mustDial(cb, withReplay())
					mustReceive(t, s, 1, 2)
					stop := p.serve(w.Listener())
					defer stop()
					ended := receiving(s)
					w.server.Stop()
					rest(time.Minute)
					require.GreaterOrEqual(t, s.Stats().Attempts, uint64(3), "attempts while there is a page")
					last := s.Stats().LastError
					require.Equal(t, p.code.String(), codeOf(last).String(), "grpc's view of the page: %v", last)
					require.Empty(t, ended)

					stop()
					w.start()
					rest(time.Minute)
					require.Equal(t, stream.Attached, s.State())
					require.Equal(t, uint64(3), s.Stats().Deliveries, "the last message came")
					goesOn(t, ended)
				})
			})
		}
	}
}

// A page meets the first open. A wrong address or key ends the stream at once; anything else may get better.
func TestAPageAtTheFirstOpen(t *testing.T) {
	t.Parallel()
	for _, p := range pages() {
		for phase, cb := range waysToOpen() {
			t.Run(fmt.Sprintf("%d %s", p.status, phase), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, &feed{total: 1})
					if phase != "in Resume" {
						w.feed.handler = stays(numbered(1)...)
					}
					w.server.Stop()
					stop := p.serve(w.Listener())
					defer stop()
					if !p.wrong {
						time.AfterFunc(time.Minute, func() {
							stop()
							w.start()
						})
					}
					s, err := w.dial(t.Context(), cb, withReplay())
					if err == nil {
						defer func() { _ = s.Close() }()
						_, err = s.Recv()
					}
					if !p.wrong {
						require.NoError(t, err, "after a minute there is a server")
						return
					}
					wantEnd(t, err, stream.ReasonServer, p.code, "a page")
					require.ErrorContains(t, err, strconv.Itoa(p.status))
				})
			})
		}
	}
}

// Connections that fail are no answer; a status of a gRPC server is one, though it refused.
func TestWhatCountsAsAnAnswerBeforeAPage(t *testing.T) {
	t.Parallel()
	notFound := page{http.StatusNotFound, "text/html", codes.Unimplemented, true}
	t.Run("no connection", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, &feed{})
			w.server.Stop()
			w.Refuse(true)
			stop := notFound.serve(w.Listener())
			defer stop()
			time.AfterFunc(time.Minute, func() { w.Refuse(false) })
			_, err := w.open(t.Context())
			wantEnd(t, err, stream.ReasonServer, notFound.code, "after an outage")
		})
	})
	t.Run("UNAVAILABLE of a server", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, &feed{handler: inOrder(sends(errGone), stays(numbered(1)...))})
			s := w.mustDial(acking(), withReplay())
			stop := notFound.serve(w.Listener())
			defer stop()
			ended := receiving(s)
			synctest.Wait()
			w.server.Stop()
			rest(time.Minute)
			require.Empty(t, ended, "a gRPC server has answered this stream before")
			stop()
			w.start()
			rest(time.Minute)
			require.Equal(t, uint64(1), s.Stats().Deliveries)
		})
	})
}
