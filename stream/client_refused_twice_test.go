package stream_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/stream"
)

// grpc refuses two messages in a row, 40 times over, each for another reason. The first has aborted the attempt, and what grpc
// says of the second may be anything. The stream goes on, and what comes between arrives once.
func TestTwoRefusedMessagesInARow(t *testing.T) {
	t.Parallel()
	orders := map[string][]string{
		"too large, then not to be encoded": {"too large", "not to be encoded"},
		"not to be encoded, then too large": {"not to be encoded", "too large"},
		"both too large":                    {"too large", "too large"},
		"neither to be encoded":             {"not to be encoded", "not to be encoded"},
	}
	for name, order := range orders {
		for how, opt := range map[string]stream.ClientOption{"with replay": withReplay(), "at most once": stream.WithAtMostOnceSends()} {
			for _, receives := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %s, receives %v", name, how, receives), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						var got []uint64
						bad := badMessages()
						w := newWorld(t, &feed{handler: reads(&got)})
						s := w.mustDial(acking(), opt, stream.WithCallOptions(grpc.MaxCallSendMsgSize(5000)))
						var ended <-chan error
						if receives {
							ended = receiving(s)
						}
						for i := range uint64(40) {
							for _, which := range order {
								requireReason(t, s.Send(bad[which]), stream.ReasonMessage, which)
							}
							mustSend(t, s, i+1, i+1)
							synctest.Wait()
						}
						rest(10 * time.Minute) // what was sent on an attempt that is aborted waits for the next
						require.Equal(t, uint64(40), s.Stats().LastSeq)
						require.Equal(t, upTo(40), distinct(got), "good messages")
						if how == "at most once" {
							require.Len(t, got, 40, "each once")
						}
						if receives {
							goesOn(t, ended)
						}
					})
				})
			}
		}
	}
}
