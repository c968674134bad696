package streamtest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

// Time outside a bubble, that a run in it may take.
const (
	lookEach    = time.Second      // how often a run is looked at that has not ended
	sameLooks   = 4                // how often it has to look the same to count as stuck
	bubbleLimit = 60 * time.Second // for a run that is busy
)

// inBubble runs the scenario in a bubble, which is in a goroutine of its own: the test goes on if the bubble does not end.
func (c *cutter) inBubble(t *testing.T, places []place) result {
	t.Helper()
	var bubble atomic.Int64 // its number
	ended := make(chan result, 1)
	go func() { // ends with the bubble; the test waits for it, and gives up if it is stuck
		r := result{err: errAborted}
		defer func() {
			if p := recover(); p != nil { // of synctest: goroutines are left
				r = left(r, p, bubbleStacks(bubble.Load()))
			}
			ended <- r
		}()
		synctest.Test(t, func(*testing.T) {
			bubble.Store(ownBubble())
			r = c.playInMemory(places)
		})
	}()
	return c.watch(ended, &bubble)
}

func (c *cutter) playInMemory(places []place) result {
	memory := testnet.NewMemory()
	w := world{Network: memory.Network, listener: memory.Listener(), client: memory.Client, close: memory.Close}
	r := c.play(w, places)
	time.Sleep(c.options.limit) // what waits for a timer goes on, and may end
	return r
}

// left adds to a result that goroutines are left.
func left(r result, why any, stacks string) result {
	if r.err == nil {
		r.err = fmt.Errorf("goroutines are left after the run: %v", why)
	}
	if r.stacks == "" {
		r.stacks = stacks
	}
	return r
}

// watch waits for the end of a bubble. In real time it looks at it now and then, and gives it up if nothing moves in it though not all
// goroutines wait for each other: for the clock of the bubble, that is no wait.
func (c *cutter) watch(ended <-chan result, bubble *atomic.Int64) result {
	ticker := time.NewTicker(lookEach)
	defer ticker.Stop()
	begun, last, same := time.Now(), "", 0
	for {
		select {
		case r := <-ended:
			return r
		case <-ticker.C:
		}
		stacks, busy := lookAt(bubble.Load())
		if busy || stacks != last {
			last, same = stacks, 0
		} else {
			same++
		}
		switch {
		case same >= sameLooks:
			return result{err: errStuck, stacks: bubbleStacks(bubble.Load()), stuck: true}
		case time.Since(begun) > bubbleLimit:
			return result{err: errBusy, stacks: bubbleStacks(bubble.Load()), stuck: true}
		}
	}
}

var (
	errAborted = errors.New("the run was ended, with t.FailNow in Serve for example: let Run return an error in place of that")
	errStuck   = errors.New("nothing moves any more: a goroutine waits for a lock that is never released, or for something outside the " +
		"bubble (in that case use WithTCP)")
	errBusy = fmt.Errorf("the run has not ended within %v of real time: it tries again without a wait, or waits for something outside "+
		"the bubble (in that case use WithTCP)", bubbleLimit)
)
