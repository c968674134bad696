package streamtest_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/examples/link/linkpb"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// The code of docs/testing.md: a chat with a reconnect loop as one writes it first.

// testing.md: begin loop

// talk says each text, and waits for its reply. If the connection breaks, it opens another one, and goes on.
func talk(ctx context.Context, client linkpb.LinkClient, texts []string) (replies []string, err error) {
	for {
		s, err := client.Talk(ctx)
		if err != nil {
			return replies, err
		}
		for err == nil && len(replies) < len(texts) {
			if err = s.Send(&linkpb.Frame{Text: texts[len(replies)]}); err != nil {
				break
			}
			var m *linkpb.Frame
			if m, err = s.Recv(); err == nil {
				replies = append(replies, m.GetText())
			}
		}
		if len(replies) == len(texts) {
			return replies, s.CloseSend()
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// testing.md: end loop

// testing.md: begin server

type chatServer struct {
	linkpb.UnimplementedLinkServer

	mu  sync.Mutex
	got []string
}

// Talk answers each text.
func (c *chatServer) Talk(s grpc.BidiStreamingServer[linkpb.Frame, linkpb.Frame]) error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.got = append(c.got, m.GetText())
		c.mu.Unlock()
		if err := s.Send(&linkpb.Frame{Text: strings.ToUpper(m.GetText())}); err != nil {
			return err
		}
	}
}

// testing.md: end server

// testing.md: begin test

func chatSurvives(t *testing.T) { //nolint:thelper // it is shown as a test
	texts := []string{"one", "two", "three"}
	var server *chatServer
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: func(s *grpc.Server) {
			server = &chatServer{} // new state for each run
			linkpb.RegisterLinkServer(s, server)
		},
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			replies, err := talk(ctx, linkpb.NewLinkClient(cc), texts)
			if err != nil {
				return err
			}
			return errors.Join(
				streamtest.Same(texts, server.got),
				streamtest.Same([]string{"ONE", "TWO", "THREE"}, replies))
		},
	})
}

// testing.md: end test

func TestChatSurvives(t *testing.T) { //nolint:paralleltest // skipped, or alone in its process
	if os.Getenv(bugEnv) == "" {
		t.Skip("runs in a process of its own, for TestTestingPage")
	}
	chatSurvives(t)
}

// The page shows this code, and what this code says when it runs.
func TestTestingPage(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("loop_test.go")
	require.NoError(t, err)
	page, err := os.ReadFile("../../docs/testing.md")
	require.NoError(t, err)
	for _, part := range []string{"loop", "server", "test"} {
		_, rest, _ := strings.Cut(string(source), "// testing.md: begin "+part+"\n\n")
		code, _, found := strings.Cut(rest, "\n// testing.md: end "+part)
		require.True(t, found, "markers of %s", part)
		code = strings.ReplaceAll(code, "func chatSurvives(t *testing.T) { //nolint:thelper // it is shown as a test", "func TestChatSurvives(t *testing.T) {")
		assert.Contains(t, string(page), code)
	}
	out := inChild(t, "a loop", "^TestChatSurvives$")
	_, shown, _ := strings.Cut(string(page), "```text\n")
	shown, _, found := strings.Cut(shown, "```")
	require.True(t, found)
	for line := range strings.Lines(shown) {
		assert.Contains(t, out, strings.TrimSpace(line))
	}
}
