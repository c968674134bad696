package stream

import (
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// Hooks is an [Observer] made of functions. Each is called for the event of the interface that has a method of that name. Set
// those that you need: a function that is nil costs nothing, and events that nobody asks for are not made.
//
//	stream.WithObserver(stream.Hooks{
//		OnDetached: func(info stream.Info, cause error) { log.Print(info.Name, " is lost: ", cause) },
//	})
//
// Those that begin with OnServer are for servers, and the others for clients. Each side takes its own. It is an error if there
// is none for the side that it is given to.
type Hooks struct {
	OnOpened             func(info Info)                                                 // see [OpenedObserver]
	OnAttached           func(info Info, from checkpoint.Position)                       // see [AttachedObserver]
	OnDetached           func(info Info, cause error)                                    // see [DetachedObserver]
	OnWaiting            func(info Info, cause error)                                    // see [WaitingObserver]
	OnReconnectScheduled func(info Info, delay time.Duration)                            // see [ReconnectScheduledObserver]
	OnReplaying          func(info Info, messages uint64)                                // see [ReplayingObserver]
	OnRewound            func(info Info, messages uint64)                                // see [RewoundObserver]
	OnDuplicate          func(info Info, messages uint64, at checkpoint.Position)        // see [DuplicateObserver]
	OnHeldOverflow       func(info Info, messages uint64, bytes int)                     // see [HeldOverflowObserver]
	OnWindowFull         func(info Info, messages uint64, bytes int)                     // see [WindowFullObserver]
	OnCommitted          func(info Info, at checkpoint.Position)                         // see [CommittedObserver]
	OnCommitFailed       func(info Info, at checkpoint.Position, cause error)            // see [CommitFailedObserver]
	OnFenced             func(info Info, cause error)                                    // see [FencedObserver]
	OnRotating           func(info Info, cause error)                                    // see [RotatingObserver]
	OnRotated            func(info Info, from uint64)                                    // see [RotatedObserver]
	OnRotationPutOff     func(info Info, cause error)                                    // see [RotationPutOffObserver]
	OnGap                func(info Info, cause error)                                    // see [GapObserver]
	OnLost               func(info Info, from checkpoint.Position, cause error)          // see [LostObserver]
	OnClosed             func(info Info, cause error)                                    // see [ClosedObserver]
	OnServerOpened       func(info ServerInfo)                                           // see [ServerOpenedObserver]
	OnServerRefused      func(info ServerInfo, cause error)                              // see [ServerRefusedObserver]
	OnServerEnded        func(info ServerInfo, summary ServerSummary)                    // see [ServerEndedObserver]
	OnServerAbandoned    func(info ServerInfo, late time.Duration, panicked *PanicError) // see [ServerAbandonedObserver]
}

// apart returns the observers that o stands for: of Hooks one for each function that is set, otherwise o itself. of Hooks with
// no function for this side it returns o, which observes nothing, and is refused.
func apart(o Observer, functions func(*Hooks) []Observer) []Observer {
	var hooks *Hooks
	switch o := o.(type) {
	case Hooks:
		hooks = &o
	case *Hooks:
		hooks = o
	}
	if hooks == nil {
		return []Observer{o}
	}
	if set := functions(hooks); len(set) > 0 {
		return set
	}
	return []Observer{o}
}

// forClients returns the functions for clients that are set.
func (h *Hooks) forClients() (set []Observer) {
	add := func(is bool, o Observer) {
		if is {
			set = append(set, o)
		}
	}
	add(h.OnOpened != nil, onOpened(h.OnOpened))
	add(h.OnAttached != nil, onAttached(h.OnAttached))
	add(h.OnDetached != nil, onDetached(h.OnDetached))
	add(h.OnWaiting != nil, onWaiting(h.OnWaiting))
	add(h.OnReconnectScheduled != nil, onReconnectScheduled(h.OnReconnectScheduled))
	add(h.OnReplaying != nil, onReplaying(h.OnReplaying))
	add(h.OnRewound != nil, onRewound(h.OnRewound))
	add(h.OnDuplicate != nil, onDuplicate(h.OnDuplicate))
	add(h.OnHeldOverflow != nil, onHeldOverflow(h.OnHeldOverflow))
	add(h.OnWindowFull != nil, onWindowFull(h.OnWindowFull))
	add(h.OnCommitted != nil, onCommitted(h.OnCommitted))
	add(h.OnCommitFailed != nil, onCommitFailed(h.OnCommitFailed))
	add(h.OnFenced != nil, onFenced(h.OnFenced))
	add(h.OnRotating != nil, onRotating(h.OnRotating))
	add(h.OnRotated != nil, onRotated(h.OnRotated))
	add(h.OnRotationPutOff != nil, onRotationPutOff(h.OnRotationPutOff))
	add(h.OnGap != nil, onGap(h.OnGap))
	add(h.OnLost != nil, onLost(h.OnLost))
	add(h.OnClosed != nil, onClosed(h.OnClosed))
	return set
}

// forServers returns the functions for servers that are set.
func (h *Hooks) forServers() (set []Observer) {
	if h.OnServerOpened != nil {
		set = append(set, onServerOpened(h.OnServerOpened))
	}
	if h.OnServerRefused != nil {
		set = append(set, onServerRefused(h.OnServerRefused))
	}
	if h.OnServerEnded != nil {
		set = append(set, onServerEnded(h.OnServerEnded))
	}
	if h.OnServerAbandoned != nil {
		set = append(set, onServerAbandoned(h.OnServerAbandoned))
	}
	return set
}

// A function is an observer of one event.
type (
	onOpened             func(Info)
	onAttached           func(Info, checkpoint.Position)
	onDetached           func(Info, error)
	onWaiting            func(Info, error)
	onReconnectScheduled func(Info, time.Duration)
	onReplaying          func(Info, uint64)
	onRewound            func(Info, uint64)
	onDuplicate          func(Info, uint64, checkpoint.Position)
	onHeldOverflow       func(Info, uint64, int)
	onWindowFull         func(Info, uint64, int)
	onCommitted          func(Info, checkpoint.Position)
	onCommitFailed       func(Info, checkpoint.Position, error)
	onFenced             func(Info, error)
	onRotating           func(Info, error)
	onRotated            func(Info, uint64)
	onRotationPutOff     func(Info, error)
	onGap                func(Info, error)
	onLost               func(Info, checkpoint.Position, error)
	onClosed             func(Info, error)
	onServerOpened       func(ServerInfo)
	onServerRefused      func(ServerInfo, error)
	onServerEnded        func(ServerInfo, ServerSummary)
	onServerAbandoned    func(ServerInfo, time.Duration, *PanicError)
)

func (f onOpened) OnOpened(i Info)                                          { f(i) }
func (f onAttached) OnAttached(i Info, from checkpoint.Position)            { f(i, from) }
func (f onDetached) OnDetached(i Info, cause error)                         { f(i, cause) }
func (f onWaiting) OnWaiting(i Info, cause error)                           { f(i, cause) }
func (f onReconnectScheduled) OnReconnectScheduled(i Info, d time.Duration) { f(i, d) }
func (f onReplaying) OnReplaying(i Info, messages uint64)                   { f(i, messages) }
func (f onRewound) OnRewound(i Info, messages uint64)                       { f(i, messages) }
func (f onDuplicate) OnDuplicate(i Info, messages uint64, at checkpoint.Position) {
	f(i, messages, at)
}
func (f onHeldOverflow) OnHeldOverflow(i Info, messages uint64, bytes int) { f(i, messages, bytes) }
func (f onWindowFull) OnWindowFull(i Info, messages uint64, bytes int)     { f(i, messages, bytes) }
func (f onCommitted) OnCommitted(i Info, at checkpoint.Position)           { f(i, at) }
func (f onCommitFailed) OnCommitFailed(i Info, at checkpoint.Position, cause error) {
	f(i, at, cause)
}
func (f onFenced) OnFenced(i Info, cause error)                           { f(i, cause) }
func (f onRotating) OnRotating(i Info, cause error)                       { f(i, cause) }
func (f onRotated) OnRotated(i Info, from uint64)                         { f(i, from) }
func (f onRotationPutOff) OnRotationPutOff(i Info, cause error)           { f(i, cause) }
func (f onGap) OnGap(i Info, cause error)                                 { f(i, cause) }
func (f onLost) OnLost(i Info, from checkpoint.Position, cause error)     { f(i, from, cause) }
func (f onClosed) OnClosed(i Info, cause error)                           { f(i, cause) }
func (f onServerOpened) OnServerOpened(i ServerInfo)                      { f(i) }
func (f onServerRefused) OnServerRefused(i ServerInfo, cause error)       { f(i, cause) }
func (f onServerEnded) OnServerEnded(i ServerInfo, summary ServerSummary) { f(i, summary) }
func (f onServerAbandoned) OnServerAbandoned(i ServerInfo, late time.Duration, panicked *PanicError) {
	f(i, late, panicked)
}
