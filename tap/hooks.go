package tap

import "time"

// Hooks is an [Observer] made of functions. Each is called for the event of the interface that has a method of that name. Set
// those that you need: a function that is nil costs nothing, and events that nobody asks for are not made. It is an error if
// all are nil.
type Hooks struct {
	OnAdmitted func(info Info)                                // see [AdmittedObserver]
	OnRefused  func(info Info, reason Reason, err error)      // see [RefusedObserver]
	OnEnded    func(info Info, took time.Duration, err error) // see [EndedObserver]
}

// A function is an observer of one event.
type (
	onAdmitted func(Info)
	onRefused  func(Info, Reason, error)
	onEnded    func(Info, time.Duration, error)
)

func (f onAdmitted) OnAdmitted(i Info)                          { f(i) }
func (f onRefused) OnRefused(i Info, reason Reason, err error)  { f(i, reason, err) }
func (f onEnded) OnEnded(i Info, took time.Duration, err error) { f(i, took, err) }

// apart returns the observers that o stands for: of Hooks one for each function that is set, otherwise o itself. Of Hooks
// without a function it returns o, which observes nothing, and is refused.
func apart(o Observer) (set []Observer) {
	var h *Hooks
	switch o := o.(type) {
	case Hooks:
		h = &o
	case *Hooks:
		h = o
	}
	if h == nil {
		return []Observer{o}
	}
	if h.OnAdmitted != nil {
		set = append(set, onAdmitted(h.OnAdmitted))
	}
	if h.OnRefused != nil {
		set = append(set, onRefused(h.OnRefused))
	}
	if h.OnEnded != nil {
		set = append(set, onEnded(h.OnEnded))
	}
	if len(set) == 0 {
		return []Observer{o}
	}
	return set
}
