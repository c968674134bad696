package observe_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/internal/verify"
	"github.com/streamsafe/streamsafe/observe"
	"github.com/streamsafe/streamsafe/observe/internal/demo"
	"github.com/streamsafe/streamsafe/stream"
)

// shown is what the JSON of the page has.
type shown struct {
	Totals struct {
		Open, Ended, Matched, Shown, Attached, Trouble int
		Rate                                           float64
	}
	Streams []struct {
		Stream, ID, Side, Method, State, Delivered string
		LastError                                  string `json:"last_error"`
		Attempt, Received, Outages                 uint64
		Rate                                       float64
		Rates                                      []float64
		Ended                                      bool
		Events                                     []observe.Event
	}
}

func get(t *testing.T, page *observe.Page, query string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/streams?"+query, nil))
	return w
}

func look(t *testing.T, page *observe.Page, query string) (s shown) {
	t.Helper()
	w := get(t, page, "format=json&"+query)
	require.Equal(t, http.StatusOK, w.Code)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &s))
	return s
}

// until looks until ok says so.
func until(t *testing.T, page *observe.Page, query, what string, ok func(shown) bool) (s shown) {
	t.Helper()
	require.Eventually(t, func() bool { s = look(t, page, query); return ok(s) }, patience, 20*time.Millisecond, what)
	return s
}

func TestAStreamIsSeenToBreakAndToComeBack(t *testing.T) {
	t.Parallel()
	page := observe.Handler()
	server := start(t, stream.WithObserver(page))
	opened := open(t, server, stream.WithObserver(page), stream.WithName("prices"), stream.WithResumeMetadata())
	s := until(t, page, "filter=client", "messages a second", func(s shown) bool { return len(s.Streams) == 1 && s.Streams[0].Rate > 0 })
	row := s.Streams[0]
	require.Equal(t, []any{"prices", "client", "attached", uint64(1)}, []any{row.Stream, row.Side, row.State, row.Attempt})
	require.Equal(t, "/grpc.testing.TestService/FullDuplexCall", row.Method)
	require.Contains(t, row.Delivered, "demo ")
	both := look(t, page, "filter="+row.ID)
	require.Len(t, both.Streams, 2, "both ends, by the id that both know")

	server.Break()
	s = until(t, page, "filter=client", "the outage", func(s shown) bool { return s.Totals.Trouble == 1 && s.Streams[0].LastError != "" })
	require.Contains(t, s.Streams[0].LastError, "the server is broken")
	server.Mend()
	s = until(t, page, "filter=client&stream="+row.ID, "the end of the outage", func(s shown) bool { return s.Totals.Attached == 1 })
	require.GreaterOrEqual(t, s.Streams[0].Attempt, uint64(2))
	var what []string
	for _, e := range s.Streams[0].Events { // the newest first
		what = append(what, e.What)
	}
	require.Equal(t, "attached", what[0])
	require.Contains(t, what, "lost")

	require.NoError(t, opened.Close())
	s = until(t, page, "filter=client", "the end", func(s shown) bool { return len(s.Streams) == 1 && s.Streams[0].Ended })
	require.Equal(t, "closed", s.Streams[0].State)
	require.Contains(t, s.Streams[0].LastError, "closed by the application")
	until(t, page, "", "the ends of the handlers", func(s shown) bool { return s.Totals.Open == 0 })
}

// What a peer or an application writes is text on the page, and nothing else.
func TestThePageEscapes(t *testing.T) {
	t.Parallel()
	page := observe.Handler()
	server := start(t)
	open(t, server, stream.WithObserver(page), stream.WithName(`<script>alert(1)</script>"'&`))
	server.Break()
	s := until(t, page, "", "the outage", func(s shown) bool { return s.Totals.Trouble == 1 && s.Streams[0].LastError != "" })
	for _, query := range []string{"", "stream=" + s.Streams[0].ID, `filter="><script>x</script>`, `sort="><script>x</script>`} {
		html := get(t, page, strings.NewReplacer("<", "%3C", ">", "%3E", `"`, "%22").Replace(query)).Body.String()
		require.NotContains(t, html, "<b>the server", query)
		require.NotContains(t, html, "<script>", query)
		require.Equal(t, 1, strings.Count(html, "<script "), "the page's own, %s", query)
	}
	html := get(t, page, "")
	require.Contains(t, html.Body.String(), "&lt;b&gt;the server is broken")
	require.Contains(t, html.Header().Get("Content-Security-Policy"), "default-src 'none'")
	for _, attribute := range []string{`src="`, "http://", "https://", "@import", "url("} {
		require.NotContains(t, html.Body.String(), attribute, "nothing from outside")
	}
}

func TestSortingFilteringAndLimits(t *testing.T) {
	t.Parallel()
	page := observe.Handler()
	server := start(t)
	for _, name := range []string{"b", "c", "a"} {
		open(t, server, stream.WithObserver(page), stream.WithName(name+"-7 feed"))
	}
	names := func(query string) (names []string) {
		for _, row := range look(t, page, query).Streams {
			names = append(names, row.Stream[:1])
		}
		return names
	}
	require.Equal(t, []string{"a", "b", "c"}, names(""))
	require.Equal(t, []string{"c", "b", "a"}, names("sort=-name"))
	require.Equal(t, []string{"c"}, names("filter=FEED+C-7"), "each word")
	require.Equal(t, []string{"a", "b"}, names("limit=2"))
	require.Equal(t, []string{"a", "b", "c"}, names("limit=-1&sort=nothing"), "what is not known is ignored")
	s := look(t, page, "limit=2&filter=feed")
	require.Equal(t, []int{3, 2}, []int{s.Totals.Matched, s.Totals.Shown}, "what is left out is told")
	require.Equal(t, http.StatusBadRequest, get(t, page, "format=xml").Code)
}

func TestThePageIsLive(t *testing.T) {
	t.Parallel()
	page := observe.Handler()
	server := start(t)
	open(t, server, stream.WithObserver(page), stream.WithName("prices"))
	web := httptest.NewServer(page)
	defer web.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL+"/?format=events", nil)
	require.NoError(t, err)
	response, err := web.Client().Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	next := func(contains string) {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var parts map[string]string
				require.NoError(t, json.Unmarshal([]byte(data), &parts))
				if strings.Contains(parts["rows"], contains) {
					return
				}
			}
		}
		require.Fail(t, "the events have ended", "before %q: %v", contains, lines.Err())
	}
	next(`class="attached"`)
	server.Break()
	next("the server is broken")
	server.Mend()
	next(`class="attached"`)
}

// idle is a stream on which nothing comes.
type idle struct{ grpc.ClientStream }

func (idle) Send(*demo.Request) error      { return nil }
func (idle) Context() context.Context      { return context.Background() }
func (idle) Recv() (*demo.Response, error) { select {} }
func (idle) Trailer() metadata.MD          { return nil }
func (idle) Header() (metadata.MD, error)  { return nil, nil }

// openMany opens streams on which nothing comes.
func openMany(tb testing.TB, streams int, opts ...stream.ClientOption) {
	tb.Helper()
	for i := range streams {
		s, err := stream.Resilient(tb.Context(), func(context.Context, ...grpc.CallOption) (idle, error) { return idle{}, nil },
			stream.Callbacks[demo.Request, demo.Response]{}, append(opts, stream.WithName(fmt.Sprintf("feed %d", i)))...)
		require.NoError(tb, err)
		tb.Cleanup(func() { _ = s.Close() })
	}
}

// BenchmarkPage has the figures. Here it is only made sure that nothing grows with the square of the streams.
func TestThePageOfManyStreams(t *testing.T) {
	t.Parallel()
	page := observe.Handler()
	streams := 10_000
	if verify.Enabled { // the race detector
		streams = 1000
	}
	openMany(t, streams, stream.WithObserver(page))
	for _, query := range []string{"", "format=json", "format=json&limit=10000&sort=-rate", "filter=feed+99"} {
		began := time.Now()
		require.Equal(t, http.StatusOK, get(t, page, query).Code)
		t.Logf("%q: %v", query, time.Since(began))
		require.Less(t, time.Since(began), 10*time.Second)
	}
	require.Len(t, look(t, page, "limit=10000").Streams, streams)
}

func BenchmarkPage(b *testing.B) {
	page := observe.Handler()
	openMany(b, 10_000, stream.WithObserver(page))
	for _, query := range []string{"", "format=json", "format=json&limit=10000"} {
		b.Run("query="+query, func(b *testing.B) {
			for b.Loop() {
				w := httptest.NewRecorder()
				page.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/?"+query, nil))
			}
		})
	}
}
