package streamtest

import (
	"time"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

// faults are the faults of a network, for [Proxy] and [Network].
type faults struct {
	engine *testnet.Network // set at construction, then read only
	begun  time.Time        // the same
}

func newFaults(engine *testnet.Network, opts []Option) *faults {
	f := &faults{engine: engine, begun: time.Now()}
	for _, o := range opts {
		if o != nil {
			o.applyNetwork(f)
		}
	}
	return f
}

// Cut breaks every live connection now, or only those with the given numbers, which start at 1. Connections made later are not
// touched. Refusal and what lasts hold until Heal.
func (f *faults) Cut(kind Kind, connections ...int) { f.engine.Cut(kind, connections...) }

// Arm adds faults, each of which happens once, on connections that are there or still to come. Of two for the same place the one
// that was armed first happens first.
func (f *faults) Arm(all ...Fault) { f.engine.Arm(engineFaults(all)...) }

// ArmInOrder adds faults of which each is armed when the one before it has happened.
func (f *faults) ArmInOrder(all ...Fault) { f.engine.ArmInOrder(engineFaults(all)...) }

// Chaos arms the faults of a plan, each when the one before it has happened. The function that it returns takes the plan away.
func (f *faults) Chaos(c Chaos) (stop func()) { return f.engine.Chaos(testnet.Chaos(c)) }

// Disarm takes away the faults that have not happened, those of Chaos included.
func (f *faults) Disarm() { f.engine.Disarm() }

// Refuse makes new connections fail at once, or lets them through again.
func (f *faults) Refuse(refuse bool) { f.engine.Refuse(refuse) }

// Delay sets how long bytes travel, each way. It holds for bytes sent from now on. Zero or less: no time at all.
func (f *faults) Delay(d time.Duration) { f.engine.Delay(d) }

// Heal ends stalls, refusals and delays, and resets the connections that are in a black hole. Armed faults stay.
func (f *faults) Heal() { f.engine.Heal() }

// OnMessage sets a function to be called when message n of a connection has been forwarded, before the next one in the same
// direction is. The function must not block, and may call any method but Close. Nil: none.
func (f *faults) OnMessage(call func(connection int, d Direction, n int)) { f.engine.OnMessage(call) }

// OnCut sets a function to be called after each fault. The function must not block, and may call any method but Close. Nil: none.
func (f *faults) OnCut(call func(Cut)) {
	if call == nil {
		f.engine.OnCut(nil)
		return
	}
	f.engine.OnCut(func(c testnet.Cut) { call(Cut(c)) })
}

// Report returns what the network has done so far.
func (f *faults) Report() Report {
	s := f.engine.Stats()
	r := Report{
		Connections: s.Connections, Refused: s.Refused, Live: s.Live,
		ToServer: Traffic(s.ToServer), ToClient: Traffic(s.ToClient), Begun: f.begun,
	}
	for _, c := range f.engine.Cuts() {
		r.Cuts = append(r.Cuts, Cut(c))
	}
	return r
}

func engineFaults(all []Fault) []testnet.Fault {
	out := make([]testnet.Fault, 0, len(all))
	for _, f := range all {
		out = append(out, testnet.Fault(f))
	}
	return out
}
