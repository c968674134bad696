package stream_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/stream"
)

func TestDeduplicator(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		received := rapid.Uint64Range(0, 3).Draw(t, "received")
		d := stream.NewDeduplicator(received)
		for _, seq := range rapid.SliceOf(rapid.Uint64Range(0, 12)).Draw(t, "numbers") {
			would, wouldErr := d.Check(seq)
			require.Equal(t, received, d.Received(), "Check accepts nothing")
			fresh, err := d.Accept(seq)
			require.Equal(t, would, fresh)
			require.Equal(t, status.Convert(wouldErr).String(), status.Convert(err).String())
			switch {
			case seq == 0:
				require.Equal(t, codes.InvalidArgument, status.Code(err))
				require.False(t, fresh)
			case seq > received+1:
				require.Equal(t, codes.FailedPrecondition, status.Code(err))
				require.False(t, fresh)
			default:
				require.NoError(t, err)
				require.Equal(t, seq == received+1, fresh)
				received = max(received, seq)
			}
			require.Equal(t, received, d.Received())
		}
	})
}

// ledgerDisk is what a server has stored. It fails once.
type ledgerDisk struct {
	written []uint64
	failsAt uint64
	late    bool // it has written the message when it fails
}

var errDisk = status.Error(codes.Unavailable, "the disk")

func (d *ledgerDisk) write(seq uint64) error {
	if seq != d.failsAt {
		d.written = append(d.written, seq)
		return nil
	}
	d.failsAt = 0
	if d.late {
		d.written = append(d.written, seq)
	}
	return errDisk
}

// Invariant 26: what a server takes for a duplicate, and acknowledges, never runs ahead of what it has stored. The store fails at each
// message, before or after it has written it. The handler ends, and what comes again is stored once. The session
// outlives the handler, or begins with what is stored.
func TestADuplicateIsStored(t *testing.T) {
	t.Parallel()
	const messages = 5
	for _, late := range []bool{false, true} {
		for _, outlives := range []bool{false, true} {
			if late && outlives {
				continue // nobody knows what the store has: it has to be asked
			}
			for fails := uint64(1); fails <= messages; fails++ {
				t.Run(fmt.Sprintf("at %d, written %v, session outlives %v", fails, late, outlives), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						disk := &ledgerDisk{failsAt: fails, late: late}
						inbound := stream.NewDeduplicator(0)
						acks := func(s bidi) error {
							require.LessOrEqual(t, inbound.Received(), uint64(len(disk.written)), "what is acknowledged is stored")
							return s.Send(frame{kind: ack, seq: inbound.Received()}.response())
						}
						takes := func(m *request) error {
							fresh, err := inbound.Check(frameOf(m).seq)
							if err != nil || !fresh {
								return err
							}
							if err := disk.write(frameOf(m).seq); err != nil {
								return err
							}
							_, err = inbound.Accept(frameOf(m).seq)
							return err
						}
						w := scripted(t, func(s bidi) error {
							if !outlives {
								inbound = stream.NewDeduplicator(uint64(len(disk.written)))
							}
							for {
								m, err := s.Recv()
								if errors.Is(err, io.EOF) {
									return nil
								}
								if err == nil {
									err = takes(m)
								}
								if err == nil {
									err = acks(s)
								}
								if err != nil {
									return err
								}
							}
						})
						cb := acking()
						cb.Control = func(*response) bool { return true }
						s := w.mustDial(cb, withReplay())
						ended := receiving(s)
						mustSend(t, s, 1, messages)
						require.NoError(t, s.CloseSend())
						require.ErrorIs(t, within(t, ended, "the end of Recv"), io.EOF)
						require.Equal(t, upTo(messages), disk.written)
						require.Equal(t, uint64(2), s.Stats().Attempts)
					})
				})
			}
		}
	}
}
