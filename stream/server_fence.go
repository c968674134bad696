package stream

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// maxRunning is how many handlers of one stream may run at a time: those that were ended, and have not returned yet, and the
// newest. A client that comes again and again does not make a server hold more.
const maxRunning = 16

// WithTakeover makes the handler of a new attempt wait until the handlers of older ones have returned, at most for wait. They
// were ended already, so they can neither send nor receive. Use it if a handler holds something that the next one needs, such
// as a lock or a subscription. After wait the new handler is called anyway: one that hangs does not lock the client out.
// Default, and zero or less: it does not wait.
func WithTakeover(wait time.Duration) ServerOption {
	return serverOption(func(o *serverOptions) { o.takeover = wait })
}

// WithoutFencing lets handlers of several attempts of one stream run side by side. Use it if your handlers fence by
// themselves; see [AttemptFrom]. Default: a newer attempt ends the handlers of older ones. Streams of clients without
// WithResumeMetadata are never fenced.
func WithoutFencing() ServerOption {
	return serverOption(func(o *serverOptions) { o.unfenced = true })
}

// WithOwner tells who the caller of a stream is, by its context: the user that a token names, for example. Only the owner of
// a stream can take its place. Default, and nil: who the transport has authenticated, by mutual TLS or ALTS, and nobody
// otherwise. Then the id of the stream, which nobody can guess, is the only proof.
func WithOwner(f func(ctx context.Context) string) ServerOption {
	return serverOption(func(o *serverOptions) { o.owner = f })
}

// fence knows the newest attempt of each stream that has a handler. What it holds is bounded by the handlers that run.
type fence struct {
	mu      sync.Mutex // guards the field below
	streams map[StreamID]*lineage
}

// lineage is the attempts of one stream that have a handler. It is guarded by the fence's mu.
type lineage struct {
	owner   [sha256.Size]byte
	epoch   uint64          // of the newest attempt
	running []*ServerStream // whose handlers have not returned, the newest last
}

// enter makes s the newest attempt of its stream, and fences the older ones: they receive nothing from now on. It returns
// those whose handlers still run.
func (f *fence) enter(s *ServerStream) (older []*ServerStream, refused *EndedError) {
	why := supersededBy(EndSuperseded, s.attempt.Epoch)
	older, fenced, refused := f.replace(s, s.owner(), why)
	for _, o := range fenced {
		o.wake(why)
	}
	return older, refused
}

// replace is enter, and leaves it to the caller to wake those that were fenced just now.
func (f *fence) replace(s *ServerStream, owner [sha256.Size]byte, why *EndedError) (older, fenced []*ServerStream, refused *EndedError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.streams[s.attempt.Stream]
	switch {
	case l == nil:
		if f.streams == nil {
			f.streams = make(map[StreamID]*lineage)
		}
		l = &lineage{owner: owner}
		f.streams[s.attempt.Stream] = l
	case l.owner != owner:
		return nil, nil, &EndedError{
			End: EndRefused, code: codes.PermissionDenied, text: "the stream belongs to another caller",
		}
	case s.attempt.Epoch < l.epoch, s.attempt.Epoch == l.epoch && l.newest().endedEarly() == nil:
		return nil, nil, supersededBy(EndRefused, l.epoch)
	case len(l.running) >= maxRunning:
		return nil, nil, &EndedError{
			End: EndRefused, code: codes.ResourceExhausted, retry: time.Second,
			text: fmt.Sprintf("%d handlers of older attempts have not returned", len(l.running)),
		}
	}
	older = append(older, l.running...)
	l.epoch, l.running = s.attempt.Epoch, append(l.running, s)
	for _, o := range older {
		if o.mark(why) { // here, so that it is fenced before any newer attempt is accepted
			fenced = append(fenced, o)
		}
	}
	return older, fenced, nil
}

// newest returns the attempt that came last.
func (l *lineage) newest() *ServerStream { return l.running[len(l.running)-1] }

// leave forgets a handler that has returned (invariant 45: by identity).
func (f *fence) leave(s *ServerStream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.streams[s.attempt.Stream]
	for i, o := range l.running {
		if o == s {
			l.running = append(l.running[:i:i], l.running[i+1:]...)
			break
		}
	}
	if len(l.running) == 0 {
		delete(f.streams, s.attempt.Stream)
	}
}

// supersededBy is the end of an attempt by a newer one with this epoch.
func supersededBy(end End, epoch uint64) *EndedError {
	trailer := endTold(EndSuperseded)
	trailer.Set(supersededTrailer, strconv.FormatUint(epoch, 10))
	return &EndedError{
		End: end, code: codes.Aborted, trailer: trailer, cause: ErrSuperseded,
		text: "superseded by attempt " + strconv.FormatUint(epoch, 10) + " of the same stream",
	}
}

// takeOver waits for the handlers of older attempts, if the options say so.
func (s *ServerStream) takeOver(older []*ServerStream) {
	wait := s.server.options.takeover
	if wait <= 0 || len(older) == 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for _, o := range older {
		select {
		case <-o.done:
		case <-timer.C:
			return
		case <-s.ctx.Done():
			return
		}
	}
}

// owner returns who the caller is, in a size that does not depend on the caller.
func (s *ServerStream) owner() [sha256.Size]byte {
	if f := s.server.options.owner; f != nil {
		return sha256.Sum256([]byte(f(s.ctx)))
	}
	p, ok := peer.FromContext(s.ctx)
	if !ok {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256([]byte(authenticated(p.AuthInfo)))
}

// authenticated returns whom the transport has authenticated, empty if nobody. A certificate that was renewed names the same
// one.
func authenticated(info credentials.AuthInfo) string {
	switch info := info.(type) {
	case credentials.TLSInfo:
		if len(info.State.VerifiedChains) == 0 {
			return ""
		}
		if info.SPIFFEID != nil {
			return "spiffe " + info.SPIFFEID.String()
		}
		leaf := info.State.PeerCertificates[0]
		return fmt.Sprintf("tls %q %q %q %q", leaf.RawIssuer, leaf.RawSubject, leaf.DNSNames, leaf.EmailAddresses)
	case interface{ PeerServiceAccount() string }:
		return "alts " + info.PeerServiceAccount()
	default:
		return ""
	}
}
