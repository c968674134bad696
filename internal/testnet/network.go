package testnet

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Network joins connections and makes them fail. It is the part that [Memory] and [TCP] have in common, and is not made
// by itself. Its methods may be called at any time, from any goroutine, from the functions set with OnMessage and OnCut
// too; these functions may not call Close, which waits for them.
type Network struct {
	delay     atomic.Int64 // time.Duration
	onMessage atomic.Pointer[func(connection int, d Direction, n int)]
	recording atomic.Bool
	onCut     atomic.Pointer[func(Cut)]
	closing   chan struct{}  // closed by close
	running   sync.WaitGroup // links, and what a world adds

	mu        sync.Mutex // guards the fields below, and those of links and flows that say so
	changed   sync.Cond  // the state of a link, or a stall
	closed    bool
	refusing  bool
	refuseFor time.Time // until when new connections are refused
	record    *record   // nil: nothing is recorded
	links     map[int]*link
	armed     []*sequence
	taken     [2]Traffic // what faults count: begun messages, and bytes in hand
	forwarded [2]Traffic // what is written to an end
	joined    int
	refused   int
	cuts      []Cut
}

// Stats is a snapshot of what a network has done.
type Stats struct {
	// Connections is the number of connections joined to a server.
	Connections int
	// Refused is the number of connections refused, those that found no server included.
	Refused int
	// Live is the number of connections that are neither cut nor closed. A stalled or black-holed one is live.
	Live int
	// Cuts is the number of faults that have happened, by kind.
	Cuts map[Kind]int
	// ToServer and ToClient are what was forwarded, what is just being written to an end included.
	ToServer, ToClient Traffic
}

// Traffic is what went in one direction.
type Traffic struct {
	// Messages is the number of whole gRPC messages.
	Messages int
	// Bytes is the number of bytes, frames of all kinds included.
	Bytes int64
}

func newNetwork() *Network {
	n := &Network{closing: make(chan struct{}), links: make(map[int]*link)}
	n.changed.L = &n.mu
	return n
}

// Cut breaks every live connection now, or only those with the given numbers. Connections made later are not touched.
func (n *Network) Cut(kind Kind, connections ...int) {
	for _, l := range n.snapshot() {
		switch {
		case len(connections) > 0 && !slices.Contains(connections, l.number):
		case kind == Truncate:
			l.truncateNext()
		default:
			l.apply(Fault{Kind: kind}, Cut{Kind: kind, Connection: l.number})
		}
	}
}

// Arm adds faults, each of which happens once, on connections that are there or still to come. All are armed at once;
// of two for the same place the one armed first happens first.
func (n *Network) Arm(faults ...Fault) {
	for _, f := range faults {
		n.arm(f)
	}
}

// ArmInOrder adds faults of which each is armed when the one before has happened.
func (n *Network) ArmInOrder(faults ...Fault) {
	n.arm(faults...)
}

// Disarm takes away the faults that have not happened, those of Chaos included.
func (n *Network) Disarm() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.armed = nil
}

// Refuse makes new connections fail at once, or lets them through again.
func (n *Network) Refuse(refuse bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refusing, n.refuseFor = refuse, time.Time{}
}

// refuseLocked refuses new connections for a while. Zero: until Heal.
func (n *Network) refuseLocked(d time.Duration) {
	if d <= 0 {
		n.refusing = true
		return
	}
	n.refuseFor = time.Now().Add(d)
}

// Delay sets how long bytes travel, each way. It holds for bytes sent from now on. Zero or less: no time at all.
func (n *Network) Delay(d time.Duration) {
	n.delay.Store(int64(d))
}

// Heal lifts stalls, refusal and delay, and resets the connections that are in a black hole. Armed faults stay.
func (n *Network) Heal() {
	n.Refuse(false)
	n.Delay(0)
	for _, l := range n.snapshot() {
		l.heal()
	}
}

// OnMessage sets a function to be called when message n of a connection has been forwarded, before the next one of the
// same direction is. Messages are told in the order in which they end; without it several may be forwarded in one go. The
// function must not block. Nil: none.
func (n *Network) OnMessage(f func(connection int, d Direction, n int)) {
	if f == nil {
		n.onMessage.Store(nil)
		return
	}
	n.onMessage.Store(&f)
}

// OnCut sets a function to be called after each fault. The function must not block. Nil: none.
func (n *Network) OnCut(f func(Cut)) {
	if f == nil {
		n.onCut.Store(nil)
		return
	}
	n.onCut.Store(&f)
}

// Cuts returns the faults that have happened, in their order.
func (n *Network) Cuts() []Cut {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.cuts)
}

// Stats returns the counts so far.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := Stats{
		Connections: n.joined,
		Refused:     n.refused,
		Cuts:        make(map[Kind]int),
		ToServer:    n.forwarded[ToServer],
		ToClient:    n.forwarded[ToClient],
	}
	for _, c := range n.cuts {
		s.Cuts[c.Kind]++
	}
	for _, l := range n.links {
		if l.state == open || l.state == dark {
			s.Live++
		}
	}
	return s
}

// join forwards between two connections until they end. It reports false, and has closed them, where the network is
// closed.
func (n *Network) join(client, server endpoint) bool {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		client.Reset()
		server.Reset()
		return false
	}
	defer n.mu.Unlock()
	n.joined++
	l := newLink(n, n.joined, client, server)
	n.links[l.number] = l
	n.running.Go(l.run) // ends when both ends have closed or the link is reset; close waits
	return true
}

// refuses tells whether a new connection is to be refused, and counts it if so.
func (n *Network) refuses() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refusing || n.closed || time.Now().Before(n.refuseFor) {
		n.refused++
		return true
	}
	return false
}

func (n *Network) countRefused() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refused++
}

// close resets every connection. It reports false where that was done before.
func (n *Network) close() bool {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return false
	}
	n.closed = true
	close(n.closing)
	n.mu.Unlock()
	for _, l := range n.snapshot() {
		l.reset()
	}
	return true
}

// snapshot returns the links in the order of their numbers.
func (n *Network) snapshot() []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	links := make([]*link, 0, len(n.links))
	for _, number := range slices.Sorted(maps.Keys(n.links)) {
		links = append(links, n.links[number])
	}
	return links
}
