package ready

import (
	"context"
	"sync"
	"time"

	"github.com/streamsafe/streamsafe/internal/queue"
)

// The pace at which streams pass: two in each millisecond. So the streams of one connection come back over a time that grows
// with their number: a thousand over half a second, and one at once.
const (
	beat        = time.Millisecond
	passPerBeat = 2
)

// pacer lets visitors pass at a pace, first come, first served. A late beat lets no more pass than another one: what a busy
// machine has missed is not made up for at once.
type pacer struct {
	begin, end func() // told when the pacer begins to count, and when it ends; set at construction, then read only

	mu      sync.Mutex // guards the fields below
	timer   *time.Timer
	running bool // the timer is
	left    int  // how many may still pass in this beat
	waiting queue.Queue[*turn]
}

// turn is one who waits.
type turn struct {
	come chan struct{} // closed when it may pass
	gone bool          // it does not wait any more; guarded by the pacer's mu
}

// pass waits for the caller's turn. It reports false if ctx ends before that.
func (p *pacer) pass(ctx context.Context) bool {
	t := p.queue()
	if t == nil {
		return true
	}
	select {
	case <-t.come:
		return true
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		t.gone = true
		return false
	}
}

// queue returns the caller's turn, nil if it has come already.
func (p *pacer) queue() *turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.running:
		p.running, p.left = true, passPerBeat-1
		p.begin()
		if p.timer == nil {
			p.timer = time.AfterFunc(beat, p.next)
		} else {
			p.timer.Reset(beat)
		}
		return nil
	case p.left > 0 && p.waiting.Len() == 0:
		p.left--
		return nil
	}
	t := &turn{come: make(chan struct{})}
	p.waiting.Push(t)
	return t
}

// next begins a beat. If nobody waits, and nobody came in the last one, there is no next.
func (p *pacer) next() {
	p.mu.Lock()
	idle := p.left == passPerBeat
	for p.left = passPerBeat; p.left > 0 && p.waiting.Len() > 0; {
		if t := p.waiting.PopFront(); !t.gone {
			close(t.come)
			p.left--
		}
	}
	p.waiting.Trim()
	if p.running = !idle || p.left < passPerBeat; p.running {
		p.timer.Reset(beat)
	}
	ended := !p.running
	p.mu.Unlock()
	if ended {
		p.end()
	}
}
