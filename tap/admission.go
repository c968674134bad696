package tap

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/streamsafe/streamsafe/internal/permit"
)

// outcome is how an RPC ended.
type outcome = permit.Outcome

const (
	unrun  = permit.Unrun  // it never began
	served = permit.Served // the server has done its part, whatever the status
	left   = permit.Left   // the client cancelled it
	fault  = permit.Fault  // the server failed
)

// admission is an RPC that an Accountant has let pass. It is the context that grpc goes on with, so that one allocation
// does for both.
type admission struct {
	context.Context //nolint:containedctx // an admission is a context; set at construction, then read only

	accountant *Accountant      // set at construction, then read only
	method     string           // set at construction, then read only
	since      time.Time        // set at construction, then read only
	permits    []permit.Permit  // what the RPC holds until it ends; written by Handle, read by whoever ends it
	first      [4]permit.Permit // holds the permits where there are no more
	keys       []*keyEntry      // whose RPC it is; written by Handle, read by whoever ends it
	firstKey   [1]*keyEntry     // holds the keys where there are no more
	stop       func() bool      // ends the watch for the context; written by TagRPC, read by HandleRPC, in one goroutine
	state      atomic.Uint32
	returned   bool // the handler has returned, and occupancies are over; owned by the goroutine of the handler
}

func newAdmission(ctx context.Context, a *Accountant, method string) *admission {
	adm := &admission{Context: ctx, accountant: a, method: method, since: time.Now()}
	adm.permits, adm.keys = adm.first[:0], adm.firstKey[:0]
	return adm
}

// hold keeps p until the RPC ends. Without an admission nobody would tell of the end.
func (a *admission) hold(p permit.Permit) {
	if a != nil && !p.IsZero() {
		a.permits = append(a.permits, p)
	}
}

// runs notes that the RPC is one of e's.
func (a *admission) runs(e *keyEntry) {
	if a != nil {
		a.keys = append(a.keys, e)
	}
}

// admissionState tells who ends an admission: each may do so from one state only, so it ends once.
//
//	admitted -> tagged -> running -> ended     by the end of the RPC
//	            tagged -> ended                nobody serves the method, and the context is done
//	admitted -> ended                          grpc does not go on, or a later handle of a Chain refuses
type admissionState uint32

const (
	admitted admissionState = iota // between the tap and the stats handler
	tagged                         // the stats handler knows it
	running                        // it has a handler
	ended                          // its permits were given back
)

// admissionKey finds the newest admission in a context.
type admissionKey struct{}

// Value finds the admission in the contexts that derive from it.
func (a *admission) Value(key any) any {
	switch key := key.(type) {
	case *Accountant:
		if key == a.accountant {
			return a
		}
	case admissionKey:
		return a
	}
	return a.Context.Value(key)
}

// Err tells whether the context is done. Between the tap and the stats handler it is grpc who asks:
//
//  1. The tap lets an RPC pass, and takes permits.
//  2. The deadline passes.
//  3. grpc asks Err, and drops the RPC. No stats handler ever hears of it.
//
// So this is the only chance to give the permits back.
func (a *admission) Err() error {
	err := a.Context.Err()
	if err != nil {
		a.end(admitted, unrun, nil)
	}
	return err
}

// end gives the permits back, if the admission is in the state from.
func (a *admission) end(from admissionState, o outcome, err error) {
	if !a.state.CompareAndSwap(uint32(from), uint32(ended)) {
		return
	}
	defer func() {
		took := time.Since(a.since)
		a.accountant.rules.counters.finished(o, took)
		if o != unrun {
			a.accountant.rules.events.publish(event{kind: eventEnded, method: a.method, took: took, err: err})
		}
	}()
	a.giveBack(o, err)
}

func (a *admission) giveBack(o outcome, err error) {
	defer func() {
		for _, e := range a.keys {
			e.end()
		}
	}()
	a.giveBackFrom(0, o, err)
}

// giveBackFrom ends the permits from one on, also those after one whose policy panics.
func (a *admission) giveBackFrom(next int, o outcome, err error) {
	defer func() {
		if next < len(a.permits) {
			a.giveBackFrom(next+1, o, err)
		}
	}()
	for ; next < len(a.permits); next++ {
		if p := a.permits[next]; !a.returned || !p.Occupies() {
			p.End(o, err)
		}
	}
}

// handlerReturned gives back what the RPC occupied. The verdict about it comes with its end.
func (a *admission) handlerReturned(o outcome) {
	if a.returned || admissionState(a.state.Load()) != running {
		return
	}
	a.returned = true
	for _, p := range a.permits {
		if p.Occupies() {
			p.End(o, nil)
		}
	}
}

// giveBack ends the admissions in ctx, whose RPC will not run.
func giveBack(ctx context.Context) {
	for a, ok := ctx.Value(admissionKey{}).(*admission); ok; a, ok = a.Context.Value(admissionKey{}).(*admission) {
		a.end(admitted, unrun, nil)
	}
}
