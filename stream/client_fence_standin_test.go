package stream_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream"
)

// The fence holds for what receives in the application's place, too (invariants 12 and 35): a Send waits for room, nobody
// receives, and the stream does so itself when the attempt is lost.
func TestTheNextAttemptWaitsForTheStandIn(t *testing.T) {
	t.Parallel()
	losses := map[string]func(f *fence) (lose func(t *testing.T)){
		"a time limit": func(f *fence) func(*testing.T) {
			f.opts = append(f.opts, stream.WithIdleTimeout(10*time.Second))
			return func(*testing.T) { rest(20 * time.Second) } // the application waits in Recv by now
		},
		"Close":       fenceLosses()["Close"],
		"the context": fenceLosses()["the context"],
	}
	for where, place := range fencePlaces() {
		if strings.HasPrefix(where, "Send") {
			continue // that is no place of a stand-in
		}
		for what, loss := range losses {
			t.Run(where+", lost by "+what, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := newFence(true, true)
					f.opts = append(f.opts, stream.WithReplay(stream.ReplayLimits{Messages: 1}))
					place(f)
					lose := loss(f)
					f.open(t)
					f.sent = async(func() error {
						for seq := uint64(1); seq <= 2; seq++ { // the second waits for room
							if err := f.stream.Send(frame{kind: data, seq: seq}.request()); err != nil {
								return err
							}
						}
						return nil
					})
					f.next = 3
					within(t, f.gate.entered, "the stand-in in the gate")
					f.recv = async(f.receive)
					synctest.Wait()
					lose(t)
					if f.reason == stream.ReasonUnknown {
						f.checkResumed(t)
					} else {
						rest(time.Minute)
						require.Len(t, f.seen, 1, "attempts that were resumed")
						f.gate.open()
						requireReason(t, within(t, f.recv, "the end of Recv").err, f.reason, "Recv")
						requireReason(t, within(t, f.sent, "the end of Send"), f.reason, "the Send that waited")
					}
					mustClose(t, f.stream, "at the end")
					synctest.Wait()
					require.Zero(t, active(f.world), "handlers that still run (invariant 23)")
				})
			})
		}
	}
}
