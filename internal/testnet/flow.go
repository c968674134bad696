package testnet

import (
	"errors"
	"io"
	"time"
)

// flow is one direction of a link.
type flow struct {
	link      *link // set at construction, then read only, as the next four are
	direction Direction
	from, to  endpoint
	queue     *pipe

	// owned by the goroutine that forwards
	parser *parser
	out    []byte // to be written in one go
	ended  []int  // numbers of the messages that end in out

	// guarded by Network.mu
	stalled bool
	paused  bool  // the same, before a fault
	dark    bool  // what arrives vanishes, in this direction
	taken   int64 // bytes taken in hand; what faults count
}

// read moves what an end sends into the queue.
func (f *flow) read() {
	n := f.link.network
	buf := make([]byte, readSize)
	for {
		size, err := f.from.Read(buf)
		delay := time.Duration(n.delay.Load())
		if _, failed := f.queue.write(buf[:size], delay); failed != nil {
			return
		}
		if err != nil {
			f.queue.finish(err, delay)
			return
		}
	}
}

// forwardAll moves the queue to the other end, and then the news that it has ended.
func (f *flow) forwardAll() {
	buf := make([]byte, readSize)
	for {
		size, err := f.queue.read(buf)
		if err != nil {
			f.finish(err)
			return
		}
		if !f.forward(buf[:size]) {
			return
		}
	}
}

// finish hands on how the queue has ended.
func (f *flow) finish(cause error) {
	switch {
	case f.await() != open:
	case errors.Is(cause, io.EOF):
		_ = f.to.CloseWrite()
	default:
		f.link.reset()
	}
}

// forward sends bytes on, up to a fault. It reports false where the link is closed.
func (f *flow) forward(chunk []byte) bool {
	switch f.state() {
	case closed:
		return false
	case dark, finished:
		return true
	case open:
	}
	for p := range f.parser.pieces(chunk) {
		if !f.forwardPiece(p) {
			return false
		}
	}
	return f.flush()
}

// forwardPiece puts p into the bytes to be written, and makes the faults happen that it meets.
func (f *flow) forwardPiece(p piece) bool {
	for {
		at, fault, met := f.link.network.match(f, p)
		if !met {
			return f.hold(p)
		}
		head, tail := p.split(at)
		if !f.hold(head) || !f.flush() {
			return false
		}
		c := Cut{Kind: fault.Kind, Connection: f.link.number, Direction: f.direction, Where: fault.Where}
		if fault.Message != 0 {
			c.Message = p.message.number
		}
		f.link.apply(fault, c)
		if p = tail; len(p.data) == 0 {
			return true
		}
	}
}

// hold adds p to the bytes to be written, and writes them where a message ends and somebody wants to know.
func (f *flow) hold(p piece) bool {
	f.out = append(f.out, p.data...)
	f.link.network.note(f, p)
	if len(p.data) == 0 || !p.ends() {
		return true
	}
	f.ended = append(f.ended, p.message.number)
	return f.link.network.onMessage.Load() == nil || f.flush()
}

// flush writes what is held. In a link that is no longer open it vanishes. It reports false where the link is closed.
func (f *flow) flush() bool {
	out, ended := f.out, f.ended
	f.out, f.ended = f.out[:0], f.ended[:0]
	if len(out) == 0 {
		return f.state() != closed
	}
	if state := f.await(); state != open {
		return state != closed
	}
	f.count(len(out), len(ended)) // first: who has received a message finds it counted
	if size, err := f.to.Write(out); err != nil {
		f.count(size-len(out), -len(ended))
		if state := f.state(); state != open {
			return state != closed
		}
		f.link.reset() // the end has gone
		return false
	}
	if hook := f.link.network.onMessage.Load(); hook != nil {
		for _, number := range ended {
			(*hook)(f.link.number, f.direction, number)
		}
	}
	return true
}

// count notes what is forwarded.
func (f *flow) count(size, messages int) {
	n := f.link.network
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forwarded[f.direction].Bytes += int64(size)
	n.forwarded[f.direction].Messages += messages
}

func (f *flow) state() linkState {
	n := f.link.network
	n.mu.Lock()
	defer n.mu.Unlock()
	return f.stateLocked()
}

// stateLocked is the state of the link, as far as this direction is concerned.
func (f *flow) stateLocked() linkState {
	if f.dark && f.link.state == open {
		return dark
	}
	return f.link.state
}

// await waits while the flow is stalled, and returns the state of the link.
func (f *flow) await() linkState {
	n := f.link.network
	n.mu.Lock()
	defer n.mu.Unlock()
	for (f.stalled || f.paused) && f.stateLocked() == open {
		n.changed.Wait()
	}
	return f.stateLocked()
}
