package testnet

import (
	"net"
	"sync"
	"time"
)

const (
	readSize  = 32 << 10  // bytes read from an end at once
	queueSize = 256 << 10 // bytes under way in one direction
)

// endpoint is one of the two connections that a link joins.
type endpoint interface {
	net.Conn
	CloseWrite() error
	Reset()
}

type linkState int

const (
	open     linkState = iota
	dark               // a black hole: what arrives vanishes
	finished           // both ends were told that it is over; what still arrives vanishes
	closed             // both ends are closed
)

// link is a connection from client to server. Each direction has a goroutine that reads into the flow's queue and one
// that forwards what the queue gives; a fifth waits for them.
type link struct {
	network        *Network // set at construction, then read only, as the next four are
	number         int
	client, server endpoint
	flows          [2]*flow

	// guarded by Network.mu
	state    linkState
	truncate bool // the next piece is to be truncated
	timers   []*time.Timer
}

func newLink(n *Network, number int, client, server endpoint) *link {
	l := &link{network: n, number: number, client: client, server: server}
	l.flows[ToServer] = l.newFlow(ToServer, client, server)
	l.flows[ToClient] = l.newFlow(ToClient, server, client)
	return l
}

func (l *link) newFlow(d Direction, from, to endpoint) *flow {
	return &flow{link: l, direction: d, from: from, to: to, queue: newPipe(queueSize), parser: newParser(d)}
}

// run joins the two ends until both have closed, or the link is reset.
func (l *link) run() {
	var readers, forwarders sync.WaitGroup
	for _, f := range l.flows {
		readers.Go(f.read)          // ends when its end does; run waits
		forwarders.Go(f.forwardAll) // ends with its reader's bytes; run waits
	}
	forwarders.Wait()
	if l.release() == closed {
		l.disconnect() // whoever has closed the link may not have come to that yet, and Close would send FIN
	}
	_ = l.client.Close()
	_ = l.server.Close()
	readers.Wait()
}

// release makes the link forget its timers, and the network the link. It returns the state that the link was in.
func (l *link) release() linkState {
	n := l.network
	n.mu.Lock()
	defer n.mu.Unlock()
	before := l.state
	l.state = closed
	for _, t := range l.timers {
		t.Stop()
	}
	delete(n.links, l.number)
	return before
}

// apply makes a fault happen, and tells of it as c.
func (l *link) apply(fault Fault, c Cut) {
	if fault.Pause > 0 {
		l.pause(fault, c)
		return
	}
	c.At = time.Now()
	if !l.enter(fault, c) {
		return
	}
	switch fault.Kind {
	case FIN:
		_ = l.client.CloseWrite()
		_ = l.server.CloseWrite()
	case RST, Truncate, Refusal:
		l.disconnect()
	case BlackHole, StallToServer, StallToClient, BlackHoleToServer, BlackHoleToClient:
	}
	if f := l.network.onCut.Load(); f != nil {
		(*f)(c)
	}
}

// pause stops both directions, and makes the fault happen after a while.
func (l *link) pause(fault Fault, c Cut) {
	wait := fault.Pause
	fault.Pause = 0
	n := l.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.state != open {
		return
	}
	for _, f := range l.flows {
		f.paused = true
	}
	l.timers = append(l.timers, time.AfterFunc(wait, func() {
		l.apply(fault, c)
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, f := range l.flows {
			f.paused = false
		}
		n.changed.Broadcast()
	}))
}

// enter changes the state as a fault demands and takes a note of it. It reports false where the link is
// past faults.
func (l *link) enter(fault Fault, c Cut) bool {
	n := l.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.state == closed || l.state == finished {
		return false
	}
	switch fault.Kind {
	case FIN:
		l.state = finished
	case RST, Truncate:
		l.state = closed
	case Refusal:
		l.state = closed
		n.refuseLocked(fault.For)
	case BlackHole:
		l.state = dark
	case BlackHoleToServer:
		l.flows[ToServer].dark = true
	case BlackHoleToClient:
		l.flows[ToClient].dark = true
	case StallToServer:
		l.flows[ToServer].stalled = true
	case StallToClient:
		l.flows[ToClient].stalled = true
	}
	n.cuts = append(n.cuts, c)
	if fault.For > 0 {
		l.timers = append(l.timers, time.AfterFunc(fault.For, l.heal))
	}
	n.changed.Broadcast()
	return true
}

// truncateNext truncates the next piece that the link forwards, whichever way.
func (l *link) truncateNext() {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	l.truncate = true
}

// heal ends stalls, and a black hole by resetting the link.
func (l *link) heal() {
	n := l.network
	n.mu.Lock()
	wasDark := l.state == dark
	for _, f := range l.flows {
		wasDark = wasDark || f.dark && l.state == open
		f.stalled = false
	}
	n.changed.Broadcast()
	n.mu.Unlock()
	if wasDark {
		l.reset()
	}
}

// reset ends the link, without this being a fault.
func (l *link) reset() {
	n := l.network
	n.mu.Lock()
	l.state = closed
	n.changed.Broadcast()
	n.mu.Unlock()
	l.disconnect()
}

// disconnect resets both ends of a link that is closed.
func (l *link) disconnect() {
	l.client.Reset()
	l.server.Reset()
	for _, f := range l.flows {
		f.queue.abandon()
	}
}
