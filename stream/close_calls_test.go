package stream_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Close may be called from what grpc calls in the lifecycle goroutine, too.

// OnFinish, a function given as a call option, runs wherever an attempt is ended: in the lifecycle goroutine, too.
func TestCloseFromOnFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(time.Second, errGone), stays())
		var c closer
		s := w.mustDial(acking(), withReplay(), stream.WithCallOptions(grpc.OnFinish(func(error) { c.close() })))
		c.use(s)
		time.Sleep(2 * time.Second)
		require.NoError(t, s.Send(frame{kind: data, seq: 1}.request())) // finds the break; nobody receives
		rest(time.Hour)
		require.Equal(t, stream.Closed, s.State())
		c.check(t)
	})
}

// An interceptor may be in the lifecycle goroutine: a replay sends there.
func TestCloseFromAnInterceptorInTheReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		var c closer
		sent := 0 // sends come one after the other
		w := newWorld(t, &feed{handler: reads(&got)}, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			if sent++; sent == 2 {
				c.close()
			}
			return next(m)
		})))
		s := w.mustDial(acking(), withReplay())
		c.use(s)
		ended := receiving(s)
		mustSend(t, s, 1, 1)
		synctest.Wait()
		w.Cut(testnet.RST)
		wantEnd(t, <-ended, stream.ReasonClosed, codes.Canceled, "closed from inside")
		c.check(t)
	})
}

// WithResumable and WithPositionLost are asked about an open that failed, too.
func TestCloseFromAPredicateWhileOpening(t *testing.T) {
	t.Parallel()
	failing := errors.New("the second attempt cannot be opened")
	options := map[string]func(c *closer) stream.ClientOption{
		"WithResumable": func(c *closer) stream.ClientOption {
			return stream.WithResumable(func(err error) bool {
				if errors.Is(err, failing) {
					c.close()
				}
				return true
			})
		},
		"WithPositionLost": func(c *closer) stream.ClientOption {
			return stream.WithPositionLost(func(err error) bool {
				if errors.Is(err, failing) {
					c.close()
				}
				return false
			})
		},
	}
	for name, opt := range options {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, lasts(time.Second, errGone, numbered(1)...), stays())
				cb := positions()
				cb.Resume = func(_ context.Context, r *resumption) error {
					if r.Attempt() > 1 {
						return failing
					}
					return nil
				}
				var c closer
				s := w.mustDial(cb, opt(&c))
				c.use(s)
				got, err := receiveAll(s)
				require.Equal(t, upTo(1), got)
				wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "closed from inside")
				c.check(t)
			})
		})
	}
}
