package testnet

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipe is one direction of a socket: a bounded buffer whose bytes can be read once they are due.
type pipe struct {
	limit int // bytes; set at construction, then read only

	mu            sync.Mutex // guards the fields below
	changed       sync.Cond  // every change of them
	chunks        []chunk
	size          int       // bytes in chunks
	readErr       error     // what Read returns once chunks is empty
	readErrDue    time.Time // and this moment is reached
	writeErr      error     // what Write returns
	readDeadline  time.Time
	writeDeadline time.Time
}

type chunk struct {
	data []byte
	due  time.Time // zero: at once
}

func newPipe(limit int) *pipe {
	p := &pipe{limit: limit}
	p.changed.L = &p.mu
	return p
}

// read blocks until bytes are due, the pipe has ended, or the deadline has passed.
func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		var due time.Time
		if len(p.chunks) > 0 {
			due = p.chunks[0].due
		} else if p.readErr != nil {
			due = p.readErrDue
			if reached(due) {
				return 0, p.readErr
			}
		}
		if !p.readDeadline.IsZero() && reached(p.readDeadline) {
			return 0, os.ErrDeadlineExceeded
		}
		if n := p.takeLocked(b); n > 0 || len(b) == 0 {
			return n, nil
		}
		p.waitLocked(due, p.readDeadline)
	}
}

// takeLocked moves what is due into b.
func (p *pipe) takeLocked(b []byte) int {
	n := 0
	for n < len(b) && len(p.chunks) > 0 && reached(p.chunks[0].due) {
		head := &p.chunks[0]
		moved := copy(b[n:], head.data)
		n += moved
		head.data = head.data[moved:]
		if len(head.data) == 0 {
			p.chunks[0] = chunk{}
			p.chunks = p.chunks[1:]
		}
	}
	if n > 0 {
		p.size -= n
		p.changed.Broadcast()
	}
	return n
}

// write blocks until all of b is in the buffer, to be read after delay.
func (p *pipe) write(b []byte, delay time.Duration) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	written := 0
	for {
		if p.writeErr != nil {
			return written, p.writeErr
		}
		if written == len(b) {
			return written, nil
		}
		if !p.writeDeadline.IsZero() && reached(p.writeDeadline) {
			return written, os.ErrDeadlineExceeded
		}
		room := min(p.limit-p.size, len(b)-written)
		if room == 0 {
			p.waitLocked(p.writeDeadline)
			continue
		}
		p.chunks = append(p.chunks, chunk{data: bytes.Clone(b[written : written+room]), due: after(delay)})
		p.size += room
		written += room
		p.changed.Broadcast()
	}
}

// finish is the writer's end closing: the reader gets what is in the buffer and then, after delay, err.
func (p *pipe) finish(err error, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readErr == nil {
		p.readErr, p.readErrDue = err, after(delay)
	}
	if p.writeErr == nil {
		p.writeErr = net.ErrClosed
	}
	p.changed.Broadcast()
}

// abandon is the reader's end closing: what is in the buffer is lost.
func (p *pipe) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chunks, p.size = nil, 0
	p.readErr, p.readErrDue = net.ErrClosed, time.Time{}
	if p.writeErr == nil {
		p.writeErr = syscall.EPIPE
	}
	p.changed.Broadcast()
}

// reset breaks both ends. The reader still gets what is in the buffer.
func (p *pipe) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readErr == nil || p.readErr == io.EOF { //nolint:errorlint // never wrapped here
		p.readErr, p.readErrDue = syscall.ECONNRESET, time.Time{}
	}
	if p.writeErr == nil {
		p.writeErr = syscall.ECONNRESET
	}
	p.changed.Broadcast()
}

func (p *pipe) setReadDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readDeadline = t
	p.changed.Broadcast()
}

func (p *pipe) setWriteDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writeDeadline = t
	p.changed.Broadcast()
}

// waitLocked waits for a change, or for the first of the given moments that is not zero.
func (p *pipe) waitLocked(moments ...time.Time) {
	var first time.Time
	for _, t := range moments {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if !first.IsZero() {
		timer := time.AfterFunc(time.Until(first), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.changed.Broadcast()
		})
		defer timer.Stop()
	}
	p.changed.Wait()
}

// reached tells whether t has come. Zero is the past.
func reached(t time.Time) bool {
	return t.IsZero() || !time.Now().Before(t)
}

// after is the moment d from now, or zero for none.
func after(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}
