package streamtest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/stream/streamtest"
)

func TestCorrectChat(t *testing.T) {
	t.Parallel()
	streamtest.CutEverywhere(t, chat(correct))
}

// Over real sockets, in real time, a sample.
func TestCorrectChatOverTCP(t *testing.T) {
	t.Parallel()
	streamtest.CutEverywhere(t, chat(correct), streamtest.WithTCP(), streamtest.WithBudget(30))
}

// Each run has a server of its own, and one runs after the other: state that Serve makes is that of Run.
func TestRunsAreApart(t *testing.T) {
	t.Parallel()
	serves, runs := 0, 0
	s := chat(correct)
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: func(server *grpc.Server) {
			serves++
			s.Serve(server)
		},
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			runs++
			if serves != runs {
				return errors.New("Serve was called for another run")
			}
			return s.Run(ctx, cc)
		},
	}, streamtest.WithBudget(20), streamtest.WithKinds(streamtest.RST))
	assert.Equal(t, 20, serves, "the undisturbed run, and what is left of the budget")
}

// The interceptors of the scenario are outside, and its dial options are used.
func TestOptionsReachServerAndClient(t *testing.T) {
	t.Parallel()
	var client, server int
	streamtest.CutEverywhere(t, chat(correct), streamtest.WithBudget(3),
		streamtest.WithServerOptions(grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			server++
			return handler(srv, ss)
		})),
		streamtest.WithDialOptions(grpc.WithStreamInterceptor(func(
			ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			client++
			return next(ctx, d, cc, method, opts...)
		})))
	assert.GreaterOrEqual(t, client, 3)
	assert.GreaterOrEqual(t, server, 3)
}

// What ends by itself, if only later, is no leak.
func TestGoroutinesThatEndLate(t *testing.T) {
	t.Parallel()
	s := chat(correct)
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: s.Serve,
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			go func() { time.Sleep(time.Minute) }() // ends by itself
			return s.Run(ctx, cc)
		},
	}, streamtest.WithBudget(3))
}

// A scenario of unary calls has places, too.
func TestUnaryCalls(t *testing.T) {
	t.Parallel()
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: func(s *grpc.Server) { testpb.RegisterTestServiceServer(s, echo{}) },
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			for {
				_, err := testpb.NewTestServiceClient(cc).EmptyCall(ctx, &testpb.Empty{}, grpc.WaitForReady(true))
				if err == nil || ctx.Err() != nil {
					return err
				}
				time.Sleep(10 * time.Millisecond)
			}
		},
	})
}

func (echo) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	return &testpb.Empty{}, nil
}

// child runs a test of this binary in a process of its own, and returns what it prints.
func child(t *testing.T, mode, run string, args ...string) (out string, passed bool) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], append([]string{"-test.run=" + run, "-test.timeout=3m", "-test.v"}, args...)...)
	c.Env = append(os.Environ(), bugEnv+"="+mode)
	b, err := c.CombinedOutput()
	return string(b), err == nil
}

// tried returns the sub-tests that have run.
func tried(out string) []string {
	return regexp.MustCompile(`(?m)^=== RUN .*`).FindAllString(out, -1)
}

// firsts is tried without second cuts: which there are depends on how far the client had got.
func firsts(out string) []string {
	return slices.DeleteFunc(tried(out), func(line string) bool { return strings.Contains(line, "_and_again") })
}

func TestSamples(t *testing.T) {
	t.Parallel()
	first, passed := child(t, "sample 1", "^TestModes$")
	require.True(t, passed, first)
	assert.Regexp(t, `30 runs, at \d+ of 150 places`, first)
	assert.Contains(t, first, "a sample: WithSeed(1) draws the same one, and WithBudget(0) has all places")
	again, _ := child(t, "sample 1", "^TestModes$")
	assert.Equal(t, firsts(first), firsts(again), "the seed gives the same places")
	other, _ := child(t, "sample 2", "^TestModes$")
	assert.NotEqual(t, firsts(first), firsts(other))

	short, passed := child(t, "all", "^TestModes$", "-test.short")
	require.True(t, passed, short)
	assert.Regexp(t, `100 runs, at \d+ of 150 places`, short)
	assert.Regexp(t, `a sample: WithSeed\(\d+\) draws`, short)

	one, passed := child(t, "sample 1", "^TestModes$/^FIN_in_response_4$")
	require.True(t, passed, one)
	assert.Len(t, tried(one), 2, "a place that is named runs, whatever the budget: %v", one)
	one, _ = child(t, "sample 1", "^TestModes$/^FIN_in_response_4_and_again$")
	assert.Greater(t, len(tried(one)), 2, "its second cuts, too: %v", one)
}

// What cannot be a scenario says so.
func TestWrongScenarios(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]string{
		"no Run":        "a Scenario needs Serve and Run",
		"wrong":         "without any fault: it never works",
		"no message":    "no message has passed, so there is no place to cut at",
		"no place":      "none of the kinds of WithKinds happens in a direction in which there are messages",
		"Serve panics":  "without any fault: the function Serve panics: no server for this",
		"Serve fails":   "the run was ended, with t.FailNow in Serve for example",
		"once":          `repeat it: go test -run '^TestModes$/^RST_in_request_2$' .`,
		"restless":      "runs ended before the place of a fault",
		"late over TCP": ": /grpc.testing.TestService/FullDuplexCall: a handler has not returned 300ms after its connection had gone",
	} {
		out, passed := child(t, mode, "^TestModes$")
		assert.False(t, passed, mode)
		assert.Contains(t, out, want, mode)
		if mode == "once" {
			assert.Contains(t, out, "second cuts are left out, as first ones fail")
			assert.NotContains(t, out, "_and_again")
		}
		if mode == "late over TCP" {
			assert.Contains(t, out, "the rest is left out, as a run has not ended")
		}
	}
}

// TestModes is run by the tests above.
func TestModes(t *testing.T) { //nolint:paralleltest // skipped, or alone in its process
	mode := os.Getenv(bugEnv)
	s := chat(correct)
	var opts []streamtest.CutOption
	switch mode {
	case "sample 1":
		opts = append(opts, streamtest.WithBudget(30), streamtest.WithSeed(1))
	case "sample 2":
		opts = append(opts, streamtest.WithBudget(30), streamtest.WithSeed(2))
	case "all":
	case "no Run":
		s.Run = nil
	case "wrong":
		s.Run = func(context.Context, grpc.ClientConnInterface) error { return errors.New("it never works") }
	case "no place": // a request, and a server that never answers
		s.Run = func(ctx context.Context, cc grpc.ClientConnInterface) error {
			stream, err := testpb.NewTestServiceClient(cc).FullDuplexCall(ctx)
			if err != nil {
				return err
			}
			_ = stream.Send(&request{})
			_ = stream.CloseSend()
			_, _ = stream.Recv()
			return nil
		}
		s.Serve = func(server *grpc.Server) { testpb.RegisterTestServiceServer(server, silent{}) }
		opts = append(opts, streamtest.WithKinds(streamtest.StallToClient))
	case "Serve panics":
		s.Serve = func(*grpc.Server) { panic("no server for this") } //nolint:forbidigo // this is the bug
	case "Serve fails":
		s.Serve = func(*grpc.Server) { t.FailNow() }
	case "no message":
		s.Run = func(context.Context, grpc.ClientConnInterface) error { return nil }
	case "once":
		runs := 0
		s.Run = func(ctx context.Context, cc grpc.ClientConnInterface) error {
			if runs++; runs == 6 {
				return errors.New("not this time")
			}
			return chatWith(ctx, cc)
		}
	case "restless": // only the first run uses the stream
		used := false
		s.Run = func(ctx context.Context, cc grpc.ClientConnInterface) error {
			if used {
				return nil
			}
			used = true
			return chatWith(ctx, cc)
		}
	case "late over TCP":
		s = chat(handlerHangs)
		opts = append(opts, streamtest.WithTCP(), streamtest.WithLimit(300*time.Millisecond))
	default:
		t.Skip("runs in a process of its own, for TestSamples and TestWrongScenarios")
	}
	streamtest.CutEverywhere(t, s, opts...)
}

// silent takes what comes.
type silent struct {
	testpb.UnimplementedTestServiceServer
}

func (silent) FullDuplexCall(s grpc.BidiStreamingServer[request, response]) error {
	for {
		if _, err := s.Recv(); err != nil {
			return nil //nolint:nilerr // the end
		}
	}
}

// chatWith chats, and looks at nothing.
func chatWith(ctx context.Context, cc grpc.ClientConnInterface) error {
	g := &guest{bug: correct, client: testpb.NewTestServiceClient(cc), texts: strings.Fields("one two three four")}
	return g.talk(ctx)
}
