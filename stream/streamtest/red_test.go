package streamtest_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// Each bug has to be found, and named by its place. Each broken chat runs in a process of its own.

const bugEnv = "STREAMTEST_BUG"

// found is how a bug shows. Each text is a regular expression.
func found() map[bug][]string {
	const place = `cut \(\w+\) (before|in|after) (request|response) \d of \d`
	return map[bug][]string{
		resumeTooEarly:     {place + `.*replies: .*twice "ONE"`, `cut \(RST\) after response 2 of 5: replies: .*twice "ONE"`},
		resumeTooLate:      {`cut \(RST\) after response 2 of 5: the client gets nowhere: it has made \d+ calls, and 1 if nothing disturbs it`},
		positionTooSoon:    {place + `.*replies: lost`},
		acksByConnection:   {place + `.*: texts: twice`},
		sendsBeforeReading: {place + `.*: texts: twice`},
		serverDoubles:      {`cut \(RST\) after response 2 of 5: replies: .*twice "ONE"`},
		handlerHangs:       {place + `.*: /grpc.testing.TestService/FullDuplexCall: a handler has not returned 10m0s after`, `chan receive.*synctest`, `chat_test.go:\d+`},
		handlerLocks:       {place + `.*: nothing moves any more: a goroutine waits for a lock`, `sync.Mutex.Lock`, `chat_test.go:\d+`},
		runPanics:          {place + `.*: the function Run panics: no client for this`, `chat_test.go:\d+`},
		handlerPanics:      {`cut \(RST\) after response 3 of 5: the handler of /grpc.testing.TestService/FullDuplexCall panics: no handler`},
		neverEnds:          {place + `.*: the function Run has not returned within 10m0s`, `chat_test.go:\d+`},
		exits:              {place + `.*: the function Run has ended its goroutine`},
		spins:              {`refusal (before|in|after) (request|response) \d of 5: the client gets nowhere`},
		leaks:              {place + `.*: goroutines are left after the run`, `select \(no cases\)`, `chat_test.go:\d+`},
	}
}

func TestBugsAreFound(t *testing.T) {
	t.Parallel()
	for b, texts := range found() {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			out := inChild(t, b, "^TestInChild$")
			for _, text := range texts {
				assert.Regexp(t, text, out)
			}
			if t.Failed() {
				return
			}
			repeats(t, b, out)
		})
	}
}

// repeats sees that the commands of failures repeat them. Where the other direction decides, a single run may pass.
func repeats(t *testing.T, b bug, out string) {
	t.Helper()
	all := regexp.MustCompile(`repeat it: go test -run '(.*)' \.\n`).FindAllStringSubmatch(out, -1)
	require.NotEmpty(t, all)
	for _, m := range all {
		for _, count := range []string{"1", "10"} {
			again, passed := child(t, string(b), m[1], "-test.count="+count)
			assert.LessOrEqual(t, strings.Count(again, "=== RUN"), 10*4, "it repeats little else")
			if !passed {
				assert.Contains(t, again, "'"+m[1]+"'", "the command repeats the failure")
				return
			}
		}
	}
	assert.Fail(t, "no command repeats its failure", out)
}

// inChild runs a test of this binary on a chat with a bug, in a process of its own, and returns what it printed.
func inChild(t *testing.T, b bug, run string) string {
	t.Helper()
	out, passed := child(t, string(b), run)
	require.False(t, passed, "a chat with this bug has passed: %s\n%s", b, out)
	return out
}

func TestInChild(t *testing.T) { //nolint:paralleltest // skipped, or alone in its process
	b := bug(os.Getenv(bugEnv))
	if b == "" {
		t.Skip("runs in a process of its own, for TestBugsAreFound")
	}
	streamtest.CutEverywhere(t, chat(b))
}
