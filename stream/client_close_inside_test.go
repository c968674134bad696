package stream_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// closer calls Close of a stream that is not there yet when its callbacks are made.
type closer struct {
	mu     sync.Mutex // guards the fields below
	stream *client
	calls  int
	errs   []error
}

func (c *closer) use(s *client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream = s
}

func (c *closer) close() {
	c.mu.Lock()
	s := c.stream
	c.mu.Unlock()
	if s == nil {
		return
	}
	err := s.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if err != nil {
		c.errs = append(c.errs, err)
	}
}

// check sees that Close was called, and has returned.
func (c *closer) check(t *testing.T) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Positive(t, c.calls, "the place was reached, and Close has returned")
	require.Empty(t, c.errs)
}

type closingObserver struct{ *closer }

func (o closingObserver) OnDetached(stream.Info, error) { o.close() }

// insides are the places from which Close is called: by one callback, or another function of the application.
func insides() map[string]func(c *closer, cb *callbacks) []stream.ClientOption {
	errLost := status.Error(codes.OutOfRange, "compacted")
	return map[string]func(c *closer, cb *callbacks) []stream.ClientOption{
		"Resume": func(c *closer, cb *callbacks) []stream.ClientOption {
			cb.Resume = func(context.Context, *resumption) error { c.close(); return nil }
			return nil
		},
		"Resume, with an error": func(c *closer, cb *callbacks) []stream.ClientOption {
			cb.Resume = func(_ context.Context, r *resumption) error {
				c.close()
				if r.Attempt() > 1 {
					return errors.New("closed meanwhile")
				}
				return nil
			}
			return nil
		},
		"Lost": func(c *closer, cb *callbacks) []stream.ClientOption {
			cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
				c.close()
				return stream.RestartFrom(checkpoint.Position{}), nil
			}
			return []stream.ClientOption{stream.WithPositionLost(func(error) bool { return true })}
		},
		"Replay": func(c *closer, cb *callbacks) []stream.ClientOption {
			cb.Replay = func(m *request, _ uint64) *request { c.close(); return m }
			return nil
		},
		"Acked": func(c *closer, cb *callbacks) []stream.ClientOption {
			cb.Acked = func(*response) (uint64, bool) { c.close(); return 0, false }
			return nil
		},
		"Checkpoint": func(c *closer, cb *callbacks) []stream.ClientOption {
			at := cb.Checkpoint
			cb.Checkpoint = func(m *response) (checkpoint.Position, bool) { c.close(); return at(m) }
			return nil
		},
		"Control": func(c *closer, cb *callbacks) []stream.ClientOption {
			control := cb.Control
			cb.Control = func(m *response) bool { c.close(); return control(m) }
			return nil
		},
		"Checkpoint, of a message given to Deliver": func(c *closer, cb *callbacks) []stream.ClientOption {
			cb.Resume = func(_ context.Context, r *resumption) error {
				if r.Attempt() > 1 {
					r.Deliver(frame{kind: data, seq: 9}.response())
				}
				return nil
			}
			at := cb.Checkpoint
			cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
				if frameOf(m).seq == 9 {
					c.close()
				}
				return at(m)
			}
			return nil
		},
		"WithResumable": func(c *closer, _ *callbacks) []stream.ClientOption {
			return []stream.ClientOption{stream.WithResumable(func(error) bool { c.close(); return true })}
		},
		"WithPositionLost": func(c *closer, _ *callbacks) []stream.ClientOption {
			return []stream.ClientOption{stream.WithPositionLost(func(error) bool { c.close(); return false })}
		},
		"Lost, while the position is gone for good": func(c *closer, cb *callbacks) []stream.ClientOption {
			cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
				c.close()
				return stream.Recovery{}, errLost
			}
			return []stream.ClientOption{stream.WithPositionLost(func(error) bool { return true })}
		},
		"an observer": func(c *closer, _ *callbacks) []stream.ClientOption {
			return []stream.ClientOption{stream.WithObserver(closingObserver{c})}
		},
	}
}

func TestCloseFromInside(t *testing.T) {
	t.Parallel()
	for name, place := range insides() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, lasts(time.Second, errGone, numbered(1)...), stays(numbered(2)...))
				cb := w.feed.callbacks()
				cb.Resume = saysNothing
				var c closer
				opts := place(&c, &cb)
				s := w.mustDial(cb, append(opts, stream.WithReplay(stream.ReplayLimits{}))...)
				c.use(s)
				require.NoError(t, s.Send(frame{kind: data, seq: 1}.request()))
				_, err := receiveAll(s)
				wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "closed from inside")
				mustClose(t, s, "called by the test")
				c.check(t)
			})
		})
	}
}

// Where Send alone is used, the lifecycle goroutine receives what is left of a dead attempt, and calls the callbacks.
func TestCloseFromInsideWhereNobodyReceives(t *testing.T) {
	t.Parallel()
	places := map[string]func(c *closer, cb *callbacks){
		"Acked": func(c *closer, cb *callbacks) {
			cb.Acked = func(*response) (uint64, bool) { c.close(); return 0, false }
		},
		"Checkpoint": func(c *closer, cb *callbacks) { cb.Checkpoint = closingCheckpoint(c) },
		"Control":    func(c *closer, cb *callbacks) { cb.Control = func(*response) bool { c.close(); return false } },
	}
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(errGone, numbered(1)...))
				cb := positions()
				var c closer
				place(&c, &cb)
				s := w.mustDial(cb, stream.WithAtMostOnceSends())
				c.use(s)
				time.Sleep(time.Second) // the attempt is dead, and nobody knows
				var err error
				for err == nil {
					err = s.Send(frame{kind: data}.request())
				}
				wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "closed from inside")
				mustClose(t, s, "called by the test")
				c.check(t)
			})
		})
	}
}

// While an attempt is being opened, too, the application's rules may close the stream.
func TestCloseFromARuleWhileOpening(t *testing.T) {
	t.Parallel()
	errRefused := status.Error(codes.Unavailable, "refused")
	rules := map[string]func(closes func(error)) stream.ClientOption{
		"WithResumable": func(closes func(error)) stream.ClientOption {
			return stream.WithResumable(func(err error) bool { closes(err); return true })
		},
		"WithPositionLost": func(closes func(error)) stream.ClientOption {
			return stream.WithPositionLost(func(err error) bool { closes(err); return false })
		},
	}
	policies := map[string]func() failsafe.Policy[any]{
		"no policy": nil,
		"a hedge":   func() failsafe.Policy[any] { return hedgepolicy.NewWithDelay[any](time.Second) },
	}
	for name, rule := range rules {
		for under, policy := range policies {
			t.Run(name+", "+under, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var c closer
					opts := []stream.ClientOption{rule(func(err error) {
						if errors.Is(err, errRefused) {
							c.close()
						}
					})}
					if policy != nil {
						opts = append(opts, stream.WithOpenPolicies(policy()))
					}
					s := scripted(t, lasts(time.Second, errGone, numbered(1)...), stays()).mustDial(
						resumes(func(_ context.Context, r *resumption) error {
							if r.Attempt() > 1 {
								return errRefused
							}
							return nil
						}), opts...)
					c.use(s)
					_, err := receiveAll(s)
					wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "closed while the second attempt was opened")
					mustClose(t, s, "called by the test")
					c.check(t)
				})
			})
		}
	}
}

func closingCheckpoint(c *closer) func(*response) (checkpoint.Position, bool) {
	return func(*response) (checkpoint.Position, bool) { c.close(); return checkpoint.Position{}, false }
}
