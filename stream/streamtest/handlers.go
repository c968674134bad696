package streamtest

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// handlers counts the handlers that run, and the calls of the client.
type handlers struct {
	most    int           // calls that reach a handler; set at construction, then read only
	tooMany chan struct{} // closed when there are more
	once    sync.Once     // closes it

	mu       sync.Mutex // guards the fields below
	calls    int        // of the client
	begun    int        // handlers
	active   map[string]int
	waiting  []chan error // closed when none is active
	panicked error        // the first
}

func newHandlers(most int) *handlers {
	return &handlers{most: most, tooMany: make(chan struct{}), active: make(map[string]int)}
}

func (h *handlers) callsStream(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, //nolint:ireturn // of grpc
	next grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	h.call()
	return next(ctx, d, cc, method, opts...)
}

func (h *handlers) callsUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	next grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	h.call()
	return next(ctx, method, req, reply, cc, opts...)
}

// call counts a call of the client.
func (h *handlers) call() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	h.checkLocked()
}

// checkLocked tells if there are too many calls. Those that reach no handler cost little, and are no sign if a server is away.
func (h *handlers) checkLocked() {
	const unheard = 40
	if h.begun > h.most || h.calls > unheard*h.most {
		h.once.Do(func() { close(h.tooMany) })
	}
}

func (h *handlers) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls
}

func (h *handlers) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	h.begin(info.FullMethod)
	defer func() { h.end(info.FullMethod, recover(), &err) }()
	return handler(srv, ss)
}

func (h *handlers) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (m any, err error) {
	h.begin(info.FullMethod)
	defer func() { h.end(info.FullMethod, recover(), &err) }()
	return handler(ctx, req)
}

// begin counts a handler.
func (h *handlers) begin(method string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.active[method]++
	h.begun++
	h.checkLocked()
}

// end counts a handler that has returned, or has panicked with p.
func (h *handlers) end(method string, p any, err *error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p != nil {
		*err = status.Errorf(codes.Internal, "the handler panics: %v", p)
		if h.panicked == nil {
			h.panicked = fmt.Errorf("the handler of %s panics: %v\n%s", method, p, debug.Stack())
		}
	}
	if h.active[method]--; h.active[method] == 0 {
		delete(h.active, method)
	}
	if len(h.active) == 0 {
		for _, ch := range h.waiting {
			close(ch)
		}
		h.waiting = nil
	}
}

// idle returns a channel that is closed when no handler runs.
func (h *handlers) idle() <-chan error {
	h.mu.Lock()
	defer h.mu.Unlock()
	ch := make(chan error)
	if len(h.active) == 0 {
		close(ch)
		return ch
	}
	h.waiting = append(h.waiting, ch)
	return ch
}

// running names the methods whose handlers run.
func (h *handlers) running() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := make([]string, 0, len(h.active))
	for method := range h.active {
		names = append(names, method)
	}
	return strings.Join(names, ", ")
}

func (h *handlers) panics() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.panicked
}
