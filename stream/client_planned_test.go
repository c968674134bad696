package stream_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 28: what moves a stream elsewhere is no failure to any policy. The stream goes on, after the wait that the server
// asks for, wherever it is cut.
func TestADrainIsAPlannedClose(t *testing.T) {
	t.Parallel()
	const total = 6
	for cut := range uint64(total) {
		synctest.Test(t, func(t *testing.T) {
			d := stream.NewDrainer(stream.DrainWindow(time.Second), stream.DrainRetryAfter(3*time.Second))
			old := func(s bidi) error {
				for seq := uint64(1); seq <= cut; seq++ {
					if err := s.Send(frame{kind: data, seq: seq}.response()); err != nil {
						return err
					}
				}
				<-s.Context().Done()
				return context.Cause(s.Context())
			}
			var began []checkpoint.Position
			fresh := resumesByMetadata(total, func(uint64) uint64 { return total + 1 }, &began)
			f := &feed{
				handler: inOrder(old, fresh),
				options: []grpc.ServerOption{grpc.StreamInterceptor(stream.ServerInterceptor(stream.WithDrainer(d)))},
			}
			w := newWorld(t, f)
			breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).Build()
			var diary diary
			s := w.mustDial(withPositions(), stream.WithResumeMetadata(), stream.WithObserver(&diary),
				stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().Build(), breaker))
			for seq := uint64(1); seq <= cut; seq++ {
				mustReceive(t, s, seq)
			}
			received := async(func() error { return receives(s, cut+1, total) })
			synctest.Wait() // the handler runs
			require.NoError(t, d.Drain(t.Context(), w.server))
			ended := time.Now()
			f.options = nil // another server, which is not drained
			w.start()
			require.NoError(t, within(t, received, "what is left"))
			require.GreaterOrEqual(t, time.Since(ended), 2*time.Second, "the server asked for 3 s after the end")
			require.Equal(t, checkpoint.Position{Lineage: "l", Seq: cut, Token: tokenAfter(cut)}, withLineage(began[0], cut))
			require.True(t, breaker.IsClosed())
			require.Zero(t, breaker.Metrics().Failures())
			_, err := s.Recv()
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

func tokenAfter(seq uint64) string {
	if seq == 0 {
		return ""
	}
	return "t"
}

// withLineage returns p, with the lineage of all positions if it is the beginning, which has none.
func withLineage(p checkpoint.Position, seq uint64) checkpoint.Position {
	if seq == 0 {
		p.Lineage = "l"
	}
	return p
}

// receives receives the messages with these numbers.
func receives(s *client, from, to uint64) error {
	for seq := from; seq <= to; seq++ {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if got := frameOf(m).seq; got != seq {
			return status.Errorf(codes.DataLoss, "%d came in place of %d", got, seq)
		}
	}
	return nil
}

// A server that says so again and again is not asked again in no time.
func TestPlannedClosesInARowAreSlowedDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		opened := 0
		w := newWorld(t, &feed{handler: func(s bidi) error {
			mu.Lock()
			opened++
			mu.Unlock()
			s.SetTrailer(metadata.Pairs("streamsafe-end", "drained"))
			return errRestart
		}})
		s := w.mustDial(withPositions(), stream.WithResumeMetadata())
		receiving := async(func() error { _, err := s.Recv(); return err })
		time.Sleep(10 * time.Minute)
		mu.Lock()
		require.Less(t, opened, 400, "the waits grow (invariant 20)")
		require.Greater(t, opened, 60, "but not without a limit")
		mu.Unlock()
		mustClose(t, s, "after that")
		require.Error(t, within(t, receiving, "Recv"))
	})
}

// Who did not resume before does not resume after a planned close either.
func TestAPlannedCloseIsSafe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		opts   []stream.ClientOption
		reason stream.Reason
	}{
		"without resume":    {[]stream.ClientOption{stream.WithoutResume()}, stream.ReasonResumeOff},
		"f does not resume": {[]stream.ClientOption{stream.WithResumable(func(error) bool { return false })}, stream.ReasonServer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &feed{handler: func(s bidi) error {
					s.SetTrailer(metadata.Pairs("streamsafe-end", "aged"))
					return errRestart
				}})
				s := w.mustDial(withPositions(), append(c.opts, stream.WithResumeMetadata())...)
				_, err := s.Recv()
				var e *stream.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, c.reason, e.Reason)
			})
		})
	}
}

// Invariant 46: superseded by another client is a typed, final end. Superseded by an attempt of the same stream is a loss like
// any other.
func TestSuperseded(t *testing.T) {
	t.Parallel()
	supersededBy := func(epoch string) func(bidi) error {
		return func(s bidi) error {
			s.SetTrailer(metadata.Pairs("streamsafe-end", "superseded", "streamsafe-superseded-by", epoch))
			return status.Error(codes.Aborted, "superseded")
		}
	}
	for epoch, resumes := range map[string]bool{"1": true, "2": false, "18446744073709551615": false, "-1": false, "x": false} {
		t.Run(epoch, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &feed{handler: inOrder(supersededBy(epoch), sends(nil, numbered(1)...))})
				s := w.mustDial(withPositions(), stream.WithResumeMetadata())
				if resumes {
					mustReceive(t, s, 1)
					return
				}
				_, err := s.Recv()
				var e *stream.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, codes.Aborted, status.Code(err))
				if epoch != "-1" && epoch != "x" {
					require.Equal(t, stream.ReasonSuperseded, e.Reason)
				}
				require.Equal(t, uint64(1), e.Attempts)
			})
		})
	}
}
