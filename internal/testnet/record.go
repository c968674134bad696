package testnet

import (
	"hash/maphash"
	"slices"
)

// What a record keeps is bounded, whatever peers send.
const (
	maxRecorded         = 1 << 16 // messages of a connection, each way
	maxRecordedSessions = 1 << 12 // connections
)

// record is which messages have passed.
type record struct {
	seed        maphash.Seed
	connections []Passage // guarded by Network.mu
}

// Passage is the messages that one connection has carried.
type Passage struct {
	// Begun is the number of messages of which a byte was forwarded, by direction. There may be more than Sums has.
	Begun [2]int
	// Sums are checksums of the messages that were forwarded as a whole, by direction, in the order in which they began. They
	// are the same for the same bytes, within one process.
	Sums [2][]uint64
}

// processSeed makes checksums of two networks comparable.
var processSeed = maphash.MakeSeed() //nolint:gochecknoglobals // has to be the same for all networks

// Record starts to keep checksums of all messages, for Passages. It is meant to be called before the first connection.
func (n *Network) Record() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.record = &record{seed: processSeed}
	n.recording.Store(true)
}

// Passages returns what each connection has carried since Record, in the order of their numbers.
func (n *Network) Passages() []Passage {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.record == nil {
		return nil
	}
	out := slices.Clone(n.record.connections)
	for i := range out {
		for d := range out[i].Sums {
			out[i].Sums[d] = slices.Clone(out[i].Sums[d])
		}
	}
	return out
}

// note takes a note of a piece that is forwarded.
func (n *Network) note(f *flow, p piece) {
	if p.message == nil || len(p.data) <= p.overhead || !n.recording.Load() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if f.stateLocked() != open || f.link.number > maxRecordedSessions || p.message.number > maxRecorded {
		return
	}
	for len(n.record.connections) < f.link.number {
		n.record.connections = append(n.record.connections, Passage{})
	}
	c := &n.record.connections[f.link.number-1]
	c.Begun[f.direction] = max(c.Begun[f.direction], p.message.number)
	if p.message.sum == nil {
		p.message.sum = new(maphash.Hash)
		p.message.sum.SetSeed(n.record.seed)
	}
	_, _ = p.message.sum.Write(p.data[p.overhead:])
	if !p.ends() {
		return
	}
	sums := &c.Sums[f.direction]
	if missing := p.message.number - len(*sums); missing > 0 {
		*sums = append(*sums, make([]uint64, missing)...)
	}
	(*sums)[p.message.number-1] = p.message.sum.Sum64()
}
