package unary

import (
	"fmt"
	"slices"
	"time"
)

// Observer is told what happens to calls. It implements one or more of the …Observer interfaces of this package, or is
// [Hooks]. Validate refuses one that implements none.
//
// Observers are called in the goroutine of the attempt, before the call goes on, and by many calls at a time: they must
// not block, and take care of their own concurrency. A hedge that lost may end after its call.
type Observer any

// Info is what every event carries.
type Info struct {
	// Method is the full method name, "/pkg.Service/Method".
	Method string
	// Attempt is the number of the attempt, from 1. At the end of a call it is the number of attempts made; of a denial,
	// that of attempts so far.
	Attempt int
	// Hedge says that the attempt is a hedge.
	Hedge bool
	// Hedges is the number of attempts so far that are hedges, or retries within one. It is set for [CallObserver] only.
	Hedges int
}

// AttemptObserver is told that an attempt has ended: how long it took, and its error; nil is success.
type AttemptObserver interface {
	OnAttempt(info Info, took time.Duration, err error)
}

// RetryObserver is told that a retry begins.
type RetryObserver interface{ OnRetry(info Info) }

// HedgeObserver is told that a hedge begins, or a retry within one.
type HedgeObserver interface{ OnHedge(info Info) }

// DeniedObserver is told that a policy let nothing run, and which: the name of its package in failsafe-go,
// "circuitbreaker" say, or "" for one that failsafe-go did not make.
type DeniedObserver interface {
	OnDenied(info Info, policy string, err error)
}

// CallObserver is told that a call has ended: how long it took, policies included, and the error that the caller gets.
type CallObserver interface {
	OnCall(info Info, took time.Duration, err error)
}

// WarningObserver is told, with the first call of an interceptor, what is probably wrong with its options: see [Validate]. The
// same goes to grpclog.
type WarningObserver interface{ OnWarning(text string) }

// observers is observers by what they observe. It is read only once it is filled.
type observers struct {
	attempt []AttemptObserver
	retry   []RetryObserver
	hedge   []HedgeObserver
	denied  []DeniedObserver
	call    []CallObserver
	warning []WarningObserver
}

func (o *observers) add(observer Observer) error {
	before := o.len()
	switch observer := observer.(type) {
	case Hooks:
		o.addHooks(&observer)
	case *Hooks:
		if observer != nil {
			o.addHooks(observer)
		}
	}
	o.attempt = appendIf(o.attempt, observer)
	o.retry = appendIf(o.retry, observer)
	o.hedge = appendIf(o.hedge, observer)
	o.denied = appendIf(o.denied, observer)
	o.call = appendIf(o.call, observer)
	o.warning = appendIf(o.warning, observer)
	if o.len() == before {
		return fmt.Errorf("observer %T implements none of the observer interfaces", observer)
	}
	return nil
}

func appendIf[T any](to []T, observer Observer) []T {
	if o, ok := observer.(T); ok {
		return append(to, o)
	}
	return to
}

func (o *observers) len() int {
	return len(o.attempt) + len(o.retry) + len(o.hedge) + len(o.denied) + len(o.call) + len(o.warning)
}

func (o *observers) empty() bool { return o.len() == 0 }

// with returns the observers of both.
func (o *observers) with(more *observers) *observers {
	return &observers{
		attempt: slices.Concat(o.attempt, more.attempt),
		retry:   slices.Concat(o.retry, more.retry),
		hedge:   slices.Concat(o.hedge, more.hedge),
		denied:  slices.Concat(o.denied, more.denied),
		call:    slices.Concat(o.call, more.call),
		warning: slices.Concat(o.warning, more.warning),
	}
}

// onStart tells what kind of attempt begins.
func (o *observers) onStart(info Info) {
	switch {
	case info.Hedge:
		for _, observer := range o.hedge {
			observer.OnHedge(info)
		}
	case info.Attempt > 1:
		for _, observer := range o.retry {
			observer.OnRetry(info)
		}
	}
}

func (o *observers) onAttempt(info Info, took time.Duration, err error) {
	for _, observer := range o.attempt {
		observer.OnAttempt(info, took, err)
	}
}

func (o *observers) onDenied(info Info, policy string, err error) {
	for _, observer := range o.denied {
		observer.OnDenied(info, policy, err)
	}
}

func (o *observers) onCall(info Info, took time.Duration, err error) {
	for _, observer := range o.call {
		observer.OnCall(info, took, err)
	}
}

func (o *observers) onWarning(text string) {
	for _, observer := range o.warning {
		observer.OnWarning(text)
	}
}
