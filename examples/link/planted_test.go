package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/examples/internal/stage"
	"github.com/streamsafe/streamsafe/examples/link/linkpb"
	"github.com/streamsafe/streamsafe/stream"
)

// The test of this package has to find bugs. Here are seven that people write, each in a link that works as long as nothing breaks.

const bugEnv = "LINK_BUG"

type opener = func(ctx context.Context, client linkpb.LinkClient) (*stream.ClientStream[linkpb.Frame, linkpb.Frame], error)

// bugs has a pattern of the failure that shows each one. Which requests a handler has read before a reset differs from run to run.
func bugs() map[string]string {
	return map[string]string{
		"resume one too early":                `cut \(RST\) after response \d of 6: twice "`,
		"resume one too late":                 `cut \(RST\) after response \d of 6: lost "`,
		"position taken before hand-over":     `cut \(RST\) in response \d of 6: lost "`,
		"acks counted per connection":         `cut \(RST\) after response \d of 6: stream: recv: not everything is acknowledged`,
		"a Resume that sends before it reads": `cut \(RST\) after request \d of 5: twice "a"`,
		"a server that doubles after a cut":   `cut \(RST\) after request \d of 5: twice "a"`,
		"a handler that hangs":                `cut \(RST\) after request \d of 5: /streamsafe\.examples\.link\.Link/Talk: a handler has not returned`,
	}
}

func TestPlantedBugsAreFound(t *testing.T) {
	t.Parallel()
	for bug, want := range bugs() {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPlanted$", "-test.timeout=2m")
			child.Env = append(os.Environ(), bugEnv+"="+bug)
			out, err := child.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed || !regexp.MustCompile(want).Match(out) {
				t.Errorf("the test has not found %q: no %q in\n%s", bug, want, out)
			}
		})
	}
}

func TestPlanted(t *testing.T) { //nolint:paralleltest // skipped, or alone in its process
	bug := os.Getenv(bugEnv)
	if bug == "" {
		t.Skip("runs in a process of its own, for TestPlantedBugsAreFound")
	}
	cutEverywhere(t, openWith(bug), func(sv *server) linkpb.LinkServer { return &planted{server: sv, bug: bug} })
}

// openWith returns open with a bug.
func openWith(bug string) opener {
	cb := callbacks()
	options := []stream.ClientOption{stream.LinkOptions(), stream.WithResumeMetadata()}
	switch bug {
	case "resume one too early": // positions that have no order, so that the stream cannot drop what comes again
		cb.Checkpoint = func(f *linkpb.Frame) (checkpoint.Position, bool) {
			return checkpoint.Position{Token: strconv.FormatUint(f.GetNumber()-1, 10)}, f.GetNumber() > 0
		}
	case "resume one too late":
		cb.Checkpoint = func(f *linkpb.Frame) (checkpoint.Position, bool) {
			return checkpoint.Position{Seq: f.GetNumber() + 1}, f.GetNumber() > 0
		}
	case "a Resume that sends before it reads":
		var sent uint64
		cb.Acked = nil
		options = []stream.ClientOption{stream.WithAtMostOnceSends(), stream.WithResumeMetadata()}
		cb.Resume = func(_ context.Context, r *stream.Resumption[linkpb.Frame, linkpb.Frame]) error {
			for n := range sent {
				if err := r.Send(&linkpb.Frame{Number: n + 1, Text: string(rune('a' + n))}); err != nil {
					return err
				}
			}
			sent = 5 // cutEverywhere has five texts
			_, err := r.Recv()
			return err
		}
	}
	return func(ctx context.Context, client linkpb.LinkClient) (*stream.ClientStream[linkpb.Frame, linkpb.Frame], error) {
		return stream.Resilient(ctx, client.Talk, cb, options...)
	}
}

// planted is a server with a bug.
type planted struct {
	*server

	bug string
}

// Talk is that of server, with the bug.
func (p *planted) Talk(s grpc.BidiStreamingServer[linkpb.Frame, linkpb.Frame]) error {
	l, sent, err := p.links.Attach(s.Context())
	if err != nil {
		return err
	}
	received := l.Received
	var here uint64
	switch p.bug {
	case "resume one too early":
		from, _ := stream.ResumeFrom(s.Context())
		sent, _ = strconv.ParseUint(from.Token, 10, 64)
	case "acks counted per connection":
		received = func() uint64 { return here }
	}
	if err := s.Send(&linkpb.Frame{Ack: received()}); err != nil {
		return err
	}
	frames := p.receiver(s, l)
	for {
		replies, err := l.After(sent)
		if err != nil {
			return err
		}
		for number, reply := range replies {
			reply.Number, reply.Ack = number, received()
			if err := s.Send(reply); err != nil {
				return err
			}
			sent = number
		}
		m, err := frames()
		here++
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && p.bug == "a handler that hangs" {
			select {} // it waits for a worker, say, that is gone
		}
		if err == nil {
			err = p.store(l, m)
		}
		if err != nil {
			return err
		}
	}
}

// receiver returns a function that receives a frame.
func (p *planted) receiver(s grpc.BidiStreamingServer[linkpb.Frame, linkpb.Frame], l *stage.Session[linkpb.Frame]) func() (*linkpb.Frame, error) {
	if p.bug != "position taken before hand-over" {
		return s.Recv
	}
	ahead, ended := make(chan *linkpb.Frame, 10), make(chan error, 1)
	go func() { // ends with the stream
		for {
			m, err := s.Recv()
			if err != nil {
				ended <- err
				return
			}
			if fresh, _ := l.Accept(m.GetNumber()); fresh { // it counts as received
				ahead <- m
			}
		}
	}()
	return func() (*linkpb.Frame, error) {
		time.Sleep(10 * time.Millisecond) // the handler works
		select {
		case err := <-ended:
			if !errors.Is(err, io.EOF) || len(ahead) == 0 {
				return nil, err // what was read ahead is gone
			}
			ended <- err
		default:
		}
		select {
		case m := <-ahead:
			return m, nil
		case <-s.Context().Done():
			return nil, s.Context().Err()
		}
	}
}

// store takes a frame in, with the bug.
func (p *planted) store(l *stage.Session[linkpb.Frame], m *linkpb.Frame) error {
	answer := func() *linkpb.Frame {
		p.got.Add(m.GetText())
		return &linkpb.Frame{Text: strings.ToUpper(m.GetText())}
	}
	switch p.bug {
	case "position taken before hand-over": // receiver has accepted it
	case "a Resume that sends before it reads", "a server that doubles after a cut":
		if _, err := l.Accept(m.GetNumber()); err != nil {
			return fmt.Errorf("frame %d: %w", m.GetNumber(), err)
		}
	default:
		return l.Take(m.GetNumber(), m.GetAck(), answer)
	}
	_, err := l.Add(answer()) // fresh or not
	return err
}
