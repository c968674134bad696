package unary

import "time"

// Hooks is an [Observer] made of functions. Each is called for the event of the interface that has a method of that name. Set
// those that you need: a function that is nil costs nothing. It is an error if all are nil.
type Hooks struct {
	OnAttempt func(info Info, took time.Duration, err error) // see [AttemptObserver]
	OnRetry   func(info Info)                                // see [RetryObserver]
	OnHedge   func(info Info)                                // see [HedgeObserver]
	OnDenied  func(info Info, policy string, err error)      // see [DeniedObserver]
	OnCall    func(info Info, took time.Duration, err error) // see [CallObserver]
	OnWarning func(text string)                              // see [WarningObserver]
}

// A function is an observer of one event.
type (
	onAttempt func(Info, time.Duration, error)
	onRetry   func(Info)
	onHedge   func(Info)
	onDenied  func(Info, string, error)
	onCall    func(Info, time.Duration, error)
	onWarning func(string)
)

func (f onAttempt) OnAttempt(i Info, took time.Duration, err error) { f(i, took, err) }
func (f onRetry) OnRetry(i Info)                                    { f(i) }
func (f onHedge) OnHedge(i Info)                                    { f(i) }
func (f onDenied) OnDenied(i Info, policy string, err error)        { f(i, policy, err) }
func (f onCall) OnCall(i Info, took time.Duration, err error)       { f(i, took, err) }
func (f onWarning) OnWarning(text string)                           { f(text) }

// addHooks adds the functions that are set.
func (o *observers) addHooks(h *Hooks) {
	if h.OnAttempt != nil {
		o.attempt = append(o.attempt, onAttempt(h.OnAttempt))
	}
	if h.OnRetry != nil {
		o.retry = append(o.retry, onRetry(h.OnRetry))
	}
	if h.OnHedge != nil {
		o.hedge = append(o.hedge, onHedge(h.OnHedge))
	}
	if h.OnDenied != nil {
		o.denied = append(o.denied, onDenied(h.OnDenied))
	}
	if h.OnCall != nil {
		o.call = append(o.call, onCall(h.OnCall))
	}
	if h.OnWarning != nil {
		o.warning = append(o.warning, onWarning(h.OnWarning))
	}
}
