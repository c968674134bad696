package stream

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// targets are what call options of the application's are written to when an attempt is over: grpc.Header, grpc.Trailer and
// grpc.Peer. grpc writes them in whatever goroutine finds the end, and two attempts may end at the same time. So each attempt
// has targets of its own, and the lifecycle goroutine copies them.
type targets struct{ copies []func() }

// own returns opts with targets of the attempt's own.
func (t *targets) own(opts []grpc.CallOption) []grpc.CallOption {
	own := make([]grpc.CallOption, len(opts), len(opts)+1)
	for i, opt := range opts {
		switch o := opt.(type) {
		case grpc.HeaderCallOption:
			opt = grpc.Header(target[metadata.MD](t, o.HeaderAddr))
		case grpc.TrailerCallOption:
			opt = grpc.Trailer(target[metadata.MD](t, o.TrailerAddr))
		case grpc.PeerCallOption:
			opt = grpc.Peer(target[peer.Peer](t, o.PeerAddr))
		}
		own[i] = opt
	}
	return own
}

// target returns a target of the attempt's own for one of the application's.
func target[T any](t *targets, theirs *T) *T {
	ours := new(T)
	t.copies = append(t.copies, func() { *theirs = *ours })
	return ours
}

// tellTargets copies the targets of a, which is over. grpc has written them when RecvMsg has failed; if nobody was there to see
// that, it is called now.
func (a *attempt[Req, Res]) tellTargets() {
	if len(a.targets.copies) == 0 {
		return
	}
	for a.stream.RecvMsg(new(Res)) == nil { // what comes on a cancelled attempt comes again
	}
	for _, copied := range a.targets.copies {
		copied()
	}
}
