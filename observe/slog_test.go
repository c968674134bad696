package observe_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/observe"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/tap"
	"github.com/streamsafe/streamsafe/unary"
)

var (
	_ stream.StreamObserver          = (*observe.Logger)(nil)
	_ stream.ServerOpenedObserver    = (*observe.Logger)(nil)
	_ stream.ServerRefusedObserver   = (*observe.Logger)(nil)
	_ stream.ServerEndedObserver     = (*observe.Logger)(nil)
	_ stream.ServerAbandonedObserver = (*observe.Logger)(nil)
	_ unary.DeniedObserver           = (*observe.Logger)(nil)
	_ unary.RetryObserver            = (*observe.Logger)(nil)
	_ unary.HedgeObserver            = (*observe.Logger)(nil)
	_ unary.WarningObserver          = (*observe.Logger)(nil)
	_ tap.RefusedObserver            = (*observe.Logger)(nil)
)

// log is what was logged.
type log struct {
	mu sync.Mutex // guards the field below
	b  strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// records returns the records, by text.
func (l *log) records(t *testing.T) map[string]map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	records := map[string]map[string]any{}
	decoder := json.NewDecoder(strings.NewReader(l.b.String()))
	for {
		var r map[string]any
		if err := decoder.Decode(&r); errors.Is(err, io.EOF) {
			return records
		} else if err != nil {
			require.NoError(t, err)
		}
		text, _ := r["msg"].(string)
		records[text] = r
	}
}

func (l *log) logger(level slog.Level) *observe.Logger {
	return observe.Slog(slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: level})))
}

func TestTheLevelsOfAStream(t *testing.T) {
	t.Parallel()
	var l log
	logger := l.logger(slog.LevelDebug)
	server := start(t, stream.WithObserver(logger))
	s := open(t, server, stream.WithObserver(logger), stream.WithName("prices"), stream.WithResumeMetadata())
	server.Break()
	require.Eventually(t, func() bool { return s.State() != stream.Attached }, patience, time.Millisecond, "the loss")
	server.Mend()
	require.Eventually(t, func() bool { return s.State() == stream.Attached }, patience, time.Millisecond, "the resume")
	require.NoError(t, s.Close())
	require.Eventually(t, func() bool { return l.records(t)["stream has ended"] != nil }, patience, time.Millisecond, "the end")
	records := l.records(t)
	for text, level := range map[string]string{
		"stream attempt is opened": "DEBUG", "stream is attached": "INFO", "stream attempt is lost": "INFO",
		"stream has ended": "INFO", "server stream is open": "DEBUG",
	} {
		require.Equal(t, level, records[text]["level"], text)
	}
	lost := records["stream attempt is lost"]
	require.Equal(t, "prices", lost["stream"])
	require.Contains(t, lost["error"], "the server is broken")
	require.Equal(t, lost["id"], records["server stream is open"]["id"], "both ends log the same id")
	require.Len(t, lost["id"], 8+len("…"), "and not the whole of it")
}

// What somebody has to look at is WARN.
func TestWhatAnOperatorMustSee(t *testing.T) {
	t.Parallel()
	var l log
	logger := l.logger(slog.LevelWarn)
	server := start(t)
	_, err := server.Open(t.Context(), stream.WithObserver(logger), stream.WithoutResume())
	require.NoError(t, err)
	server.Break()
	require.Eventually(t, func() bool { return l.records(t)["stream has ended"] != nil }, patience, time.Millisecond, "the end")
	require.Contains(t, l.records(t)["stream has ended"]["error"], "WithoutResume", "what decides is in the text")

	logger.OnServerEnded(stream.ServerInfo{Method: "/a.B/C"}, stream.ServerSummary{End: stream.EndReturned})
	require.NotContains(t, l.records(t), "server stream has ended")
	logger.OnServerEnded(stream.ServerInfo{Method: "/a.B/C"}, stream.ServerSummary{End: stream.EndPanicked, Err: errTest})
	require.Equal(t, "panicked", l.records(t)["server stream has ended"]["end"])
	logger.OnServerAbandoned(stream.ServerInfo{}, time.Second, &stream.PanicError{Value: "late"})
	require.Contains(t, l.records(t), "the handler of a stream that was ended has panicked")
	logger.OnWarning("unary: misspelt")
	require.Contains(t, l.records(t), "unary: misspelt")
}

var errTest = errors.New("a test's error")

// What may happen for each call is logged once a minute, with how many there were.
func TestWhatHappensOftenIsLoggedNowAndThen(t *testing.T) {
	t.Parallel()
	var l log
	logger := l.logger(slog.LevelInfo)
	now := time.Now()
	for range 1000 {
		logger.OnRefused(tap.Info{Method: "/a.B/C", Time: now}, tap.ReasonRateLimiter, errTest)
		logger.OnDenied(unary.Info{Method: "/a.B/C"}, "circuitbreaker", errTest)
	}
	lines := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return strings.Count(l.b.String(), "\n")
	}
	require.Equal(t, 2, lines())
	logger.OnRefused(tap.Info{Method: "/a.B/C", Time: now.Add(time.Minute)}, tap.ReasonRateLimiter, errTest)
	require.Equal(t, 3, lines())
	require.InDelta(t, 999, l.records(t)["the server refuses calls"]["more"], 0)
	observe.Slog(nil).OnRetry(unary.Info{}) // slog.Default, at DEBUG
}
