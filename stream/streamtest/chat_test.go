package streamtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// A chat that is written by hand, with no help of package stream, and each bug that people write. The client says hello with the
// number of replies that it has, and the server answers with the number of texts that it has. From there on both count.

type (
	request  = testpb.StreamingOutputCallRequest
	response = testpb.StreamingOutputCallResponse
)

// bug is what is wrong with a chat.
type bug string

const (
	correct            bug = "correct"
	resumeTooEarly     bug = "resume one too early"
	resumeTooLate      bug = "resume one too late"
	positionTooSoon    bug = "position taken before hand-over"
	acksByConnection   bug = "acks counted per connection"
	sendsBeforeReading bug = "a Resume that sends before it reads"
	serverDoubles      bug = "a server that doubles after a cut"
	handlerHangs       bug = "a handler that hangs"
	handlerLocks       bug = "a handler that hangs on a lock"
	runPanics          bug = "a client that panics"
	handlerPanics      bug = "a handler that panics"
	neverEnds          bug = "a client that waits for ever"
	exits              bug = "a client that exits"
	leaks              bug = "a goroutine that stays"
	spins              bug = "a client that tries again without a wait"
)

// room is the server. Its state outlives connections.
type room struct {
	testpb.UnimplementedTestServiceServer

	bug bug

	mu     sync.Mutex // guards the fields below
	texts  []string
	newest int // number of the newest handler
	lock   sync.Mutex
}

func (r *room) FullDuplexCall(s grpc.BidiStreamingServer[request, response]) error {
	hello, err := s.Recv()
	if err != nil {
		return err
	}
	sent := int(hello.GetResponseParameters()[0].GetSize())
	r.mu.Lock()
	r.newest++
	me, have := r.newest, len(r.texts)
	r.mu.Unlock()
	switch {
	case r.bug == acksByConnection:
		have = 0 // on this connection
	case r.bug == serverDoubles && sent > 0:
		sent--
	case r.bug == handlerPanics && sent == 2:
		panic("no handler for this") //nolint:forbidigo // this is the bug
	case r.bug == handlerLocks && me == 2:
		r.lock.Lock()
		defer r.lock.Unlock()
		r.lock.Lock()
	}
	if err := s.Send(&response{Payload: &testpb.Payload{Body: fmt.Append(nil, have)}}); err != nil {
		return err
	}
	received := make(chan error, 1)
	more := make(chan struct{}, 1)
	more <- struct{}{}
	go func() { received <- r.receive(s, me, more) }() // ends with the stream; the loop waits for it
	for {
		var err error
		ended := false
		select {
		case <-more:
		case err = <-received:
			ended = true
		}
		if ended && err != nil {
			if r.bug == handlerHangs {
				<-more
				<-more // nobody sends any more
			}
			return err
		}
		r.mu.Lock()
		replies := r.texts[min(sent, len(r.texts)):]
		r.mu.Unlock()
		for _, text := range replies {
			if err := s.Send(&response{Payload: &testpb.Payload{Body: []byte(strings.ToUpper(text))}}); err != nil {
				return err
			}
			sent++
		}
		if ended {
			return nil
		}
	}
}

// receive stores texts, as long as the handler is the newest one.
func (r *room) receive(s grpc.BidiStreamingServer[request, response], me int, more chan struct{}) error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		newest := me == r.newest
		if newest {
			r.texts = append(r.texts, string(m.GetPayload().GetBody()))
		}
		r.mu.Unlock()
		if !newest {
			return status.Error(codes.Aborted, "another connection has taken over")
		}
		select {
		case more <- struct{}{}:
		default:
		}
	}
}

// guest is the client.
type guest struct {
	bug     bug
	client  testpb.TestServiceClient
	texts   []string
	replies []string // handed over
	seen    int      // replies that were read, whether they were handed over or not
}

// errDone means that the chat is over.
var errDone = errors.New("done")

// talk chats until each text has its reply.
func (g *guest) talk(ctx context.Context) error {
	for {
		err := g.connect(ctx)
		switch {
		case errors.Is(err, errDone):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case g.bug == spins:
			continue
		}
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// connect is one connection.
func (g *guest) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := g.client.FullDuplexCall(ctx, grpc.WaitForReady(g.bug != spins))
	if err != nil {
		return err
	}
	if err := s.Send(&request{ResponseParameters: []*testpb.ResponseParameters{{Size: int32(g.position())}}}); err != nil {
		return err
	}
	if g.bug == sendsBeforeReading { // sends what has no reply yet
		if err := g.send(s, len(g.replies)); err != nil {
			return err
		}
	}
	hello, err := s.Recv()
	if err != nil {
		return err
	}
	have := 0
	if _, err := fmt.Sscan(string(hello.GetPayload().GetBody()), &have); err != nil {
		return err
	}
	if g.bug != sendsBeforeReading {
		if err := g.send(s, have); err != nil {
			return err
		}
	}
	if g.bug == positionTooSoon {
		return g.readAhead(s)
	}
	for len(g.replies) < len(g.texts) {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		g.replies = append(g.replies, string(m.GetPayload().GetBody()))
	}
	_, err = s.Recv()
	return g.end(err)
}

func (g *guest) end(err error) error {
	if errors.Is(err, io.EOF) || len(g.replies) >= len(g.texts) {
		return errDone
	}
	return err
}

// position is how many replies the client says that it has.
func (g *guest) position() int {
	switch n := len(g.replies); {
	case g.bug == resumeTooEarly && n > 0:
		return n - 1
	case g.bug == resumeTooLate && n > 0:
		return n + 1
	case g.bug == positionTooSoon:
		return g.seen
	default:
		return n
	}
}

// send sends what the server does not have.
func (g *guest) send(s grpc.BidiStreamingClient[request, response], have int) error {
	for _, text := range g.texts[min(have, len(g.texts)):] {
		if err := s.Send(&request{Payload: &testpb.Payload{Body: []byte(text)}}); err != nil {
			return err
		}
	}
	return s.CloseSend()
}

// readAhead reads in a goroutine of its own, and takes a reply for read as soon as it is.
func (g *guest) readAhead(s grpc.BidiStreamingClient[request, response]) error {
	read, broken := make(chan string, 10), make(chan error, 1)
	go func() { // ends with the stream, which ends with connect
		for {
			m, err := s.Recv()
			if err != nil {
				broken <- err
				return
			}
			g.seen++
			read <- string(m.GetPayload().GetBody())
		}
	}()
	for len(g.replies) < len(g.texts) {
		time.Sleep(time.Millisecond) // the application works
		select {
		case err := <-broken:
			for errors.Is(err, io.EOF) && len(read) > 0 {
				g.replies = append(g.replies, <-read)
			}
			return g.end(err) // what was read ahead is gone
		default:
		}
		select {
		case reply := <-read:
			g.replies = append(g.replies, reply)
		default:
		}
	}
	return errDone
}

// chat is the scenario.
func chat(b bug) streamtest.Scenario {
	texts := []string{"one", "two", "three", "four"}
	var server *room
	return streamtest.Scenario{
		Serve: func(s *grpc.Server) {
			server = &room{bug: b}
			testpb.RegisterTestServiceServer(s, server)
		},
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			g := &guest{bug: b, client: testpb.NewTestServiceClient(cc), texts: texts}
			if err := g.talk(ctx); err != nil {
				return err
			}
			if err := streamtest.Same(texts, server.texts); err != nil {
				return fmt.Errorf("texts: %w", err)
			}
			if err := streamtest.Same([]string{"ONE", "TWO", "THREE", "FOUR"}, g.replies); err != nil {
				return fmt.Errorf("replies: %w", err)
			}
			return g.misbehave(ctx, server.newest)
		},
	}
}

// misbehave does what has nothing to do with the chat, after a break.
func (g *guest) misbehave(ctx context.Context, connections int) error {
	if connections == 1 {
		return nil
	}
	switch g.bug { //nolint:exhaustive // the others are elsewhere
	case runPanics:
		panic("no client for this") //nolint:forbidigo // this is the bug
	case neverEnds:
		<-ctx.Done()
	case exits:
		runtime.Goexit()
	case leaks:
		go func() { select {} }() // never ends
	}
	return nil
}
