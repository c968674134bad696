package stream_test

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Sources that fail, and what SendFrom refuses.

// An error of the source ends SendFrom and nothing else. The next SendFrom goes on where it was, on the same attempt or another.
func TestSourceThatFails(t *testing.T) {
	t.Parallel()
	errDisk := errors.New("disk on fire")
	failing := func(at uint64) func(uint64) iter.Seq2[*request, error] {
		return func(after uint64) iter.Seq2[*request, error] {
			return func(yield func(*request, error) bool) {
				for m, err := range numbersOf(at-1, nil)(after) {
					if !yield(m, err) {
						return
					}
				}
				yield(nil, errDisk)
			}
		}
	}
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("cut %v", cut), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPuppet()
				w := newWorld(t, &feed{handler: p.handle})
				s := w.mustOpen()
				ended := receiving(s)
				err := s.SendFrom(failing(6))
				requireReason(t, err, stream.ReasonResume, "SendFrom")
				require.ErrorIs(t, err, errDisk)
				synctest.Wait()
				p.tell(frame{kind: ack, seq: 3})
				err = s.Send(item(6))
				requireReason(t, err, stream.ReasonMessage, "Send while messages of the source are not acknowledged")
				require.ErrorContains(t, err, "SendFrom")
				want := upTo(5)
				if cut {
					p.greetsWith(3)
					w.Cut(testnet.RST)
					goesOn(t, ended)
					want = append(want, 4, 5)
				}
				var pulls []uint64
				go func() { _ = s.SendFrom(numbersOf(7, &pulls)) }() // ends with the stream
				rest(time.Second)
				require.Equal(t, append(want, 6, 7), p.got(), "what the server got")
				require.Equal(t, []uint64{map[bool]uint64{false: 5, true: 3}[cut]}, pulls, "where the source was read from")
			})
		})
	}
}

// A source that has less than before cannot answer for what was sent.
func TestSourceThatIsShorterThanBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		w := newWorld(t, &feed{handler: p.handle})
		s := w.mustOpen()
		ended := receiving(s)
		have := uint64(10)
		done := make(chan error, 1)
		go func() { // ends with the source
			done <- s.SendFrom(func(after uint64) iter.Seq2[*request, error] { return numbersOf(have, nil)(after) })
		}()
		synctest.Wait()
		have = 7
		w.Cut(testnet.RST)
		err := within(t, done, "the return of SendFrom")
		requireReason(t, err, stream.ReasonResume, "SendFrom")
		require.ErrorContains(t, err, "it ended at 7, and message 10 was sent before")
		goesOn(t, ended)
	})
}

// A source that panics, or ends its goroutine, leaves nobody waiting, and the stream goes on.
func TestSourceThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(){"panics": func() { panic("source") }, "exits": runtime.Goexit} { //nolint:forbidigo // see the name
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &feed{}
				s := newWorld(t, f).mustOpen()
				gone := make(chan any, 1)
				go func() { // ends with the source
					defer func() { gone <- recover() }()
					_ = s.SendFrom(func(uint64) iter.Seq2[*request, error] {
						return func(yield func(*request, error) bool) {
							yield(frame{kind: data, seq: 1}.request(), nil)
							leave()
						}
					})
				}()
				within(t, gone, "the end of the goroutine")
				ended := receiving(s)
				require.NoError(t, s.SendFrom(numbersOf(3, nil)))
				require.ErrorIs(t, within(t, ended, "the end of Recv"), io.EOF)
				require.Equal(t, upTo(3), f.stored)
			})
		})
	}
}

// While SendFrom runs, nothing else with a number is sent.
func TestSendWhileSendFromRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		w := newWorld(t, &feed{handler: p.handle})
		s := w.mustOpen()
		receiving(s)
		go func() { _ = s.SendFrom(numbersOf(3, nil)) }() // ends with the stream
		synctest.Wait()
		for what, err := range map[string]error{
			"Send": s.Send(item(4)), "SendMsg": s.SendMsg(item(4)), "SendFrom": s.SendFrom(numbersOf(3, nil)),
		} {
			requireReason(t, err, stream.ReasonMessage, what)
			require.ErrorContains(t, err, "SendFrom is running", what)
		}
		require.Equal(t, upTo(3), p.got())
	})
}

// What grpc or an interceptor refuses ends SendFrom, and is not lost.
func TestSendFromOfAMessageThatIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after  bool
		reason stream.Reason
	}{"by an interceptor": {true, stream.ReasonSendsInDoubt}, "by grpc": {false, stream.ReasonMessage}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &feed{}
				j := keepJournal(f)
				var refuses atomic.Bool
				w := newWorld(t, f, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
					err := next(m)
					if c.after && refuses.Load() && frameOf(asRequest(m)).seq == 3 {
						return status.Error(codes.PermissionDenied, "not you")
					}
					return err
				})))
				s := w.mustOpen(stream.WithCallOptions(grpc.MaxCallSendMsgSize(1000)))
				ended := receiving(s)
				refuses.Store(true)
				requireReason(t, s.SendFrom(func(after uint64) iter.Seq2[*request, error] {
					return func(yield func(*request, error) bool) {
						for m, err := range numbersOf(5, nil)(after) {
							if f := frameOf(m); !c.after && f.seq == 3 {
								m = frame{kind: data, seq: 3, size: 2000}.request()
							}
							if !yield(m, err) {
								return
							}
						}
					}
				}), c.reason, "SendFrom")
				refuses.Store(false)
				goesOn(t, ended)
				require.NoError(t, s.SendFrom(numbersOf(5, nil)))
				require.ErrorIs(t, within(t, ended, "the end of Recv"), io.EOF)
				require.Equal(t, upTo(5), f.stored)
				j.check(t)
			})
		})
	}
}

func TestSendFromRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{handler: newPuppet().handle}
		w := newWorld(t, f)
		none := func(uint64) iter.Seq2[*request, error] { return nil }
		for text, err := range map[string]error{
			"SendFrom needs a source":                             w.mustOpen().SendFrom(nil),
			"an option of SendFrom is nil":                        w.mustOpen().SendFrom(numbersOf(1, nil), nil),
			"SendFrom and WithReplay exclude each other":          w.mustOpen(withReplay()).SendFrom(numbersOf(1, nil)),
			"SendFrom needs Callbacks.Acked, or WithOKAcknowledg": w.mustDial(callbacks{}).SendFrom(numbersOf(1, nil)),
			"WithoutCloseSend needs Callbacks.Acked":              w.mustDial(callbacks{}, stream.WithOKAcknowledges()).SendFrom(numbersOf(1, nil), stream.WithoutCloseSend()),
		} {
			requireReason(t, err, stream.ReasonOptions, text)
			require.ErrorContains(t, err, text)
		}
		require.ErrorContains(t, w.mustOpen().SendFrom(none), "it returned nil")
	})
}
