package prometheus_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/observe/internal/demo"
	streamprom "github.com/streamsafe/streamsafe/observe/prometheus"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/tap"
	"github.com/streamsafe/streamsafe/unary"
)

const patience = 30 * time.Second

var (
	_ stream.StreamObserver       = (*streamprom.Collector)(nil)
	_ stream.ServerOpenedObserver = (*streamprom.Collector)(nil)
	_ stream.ServerEndedObserver  = (*streamprom.Collector)(nil)
	_ unary.CallObserver          = (*streamprom.Collector)(nil)
	_ unary.DeniedObserver        = (*streamprom.Collector)(nil)
)

// scrape returns the samples, by name and labels.
func scrape(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	require.NoError(t, err)
	samples := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			switch {
			case m.GetCounter() != nil:
				samples[key] = m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				samples[key] = m.GetGauge().GetValue()
			case m.GetHistogram() != nil:
				samples[key] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return samples
}

func newRegistry(t *testing.T) (*streamprom.Collector, *prometheus.Registry) {
	t.Helper()
	c, r := streamprom.NewCollector(), prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(c))
	return c, r
}

func TestTheLifeOfAStream(t *testing.T) {
	t.Parallel()
	c, r := newRegistry(t)
	server, err := demo.Start(t.Context(), stream.WithObserver(c))
	require.NoError(t, err)
	defer server.Close()
	s, err := server.Open(t.Context(), stream.WithObserver(c), stream.WithName("prices"))
	require.NoError(t, err)
	until := func(what string, ok func(map[string]float64) bool) (samples map[string]float64) {
		require.Eventually(t, func() bool { samples = scrape(t, r); return ok(samples) }, patience, 5*time.Millisecond, what)
		return samples
	}
	open := func(state string) string { return "streamsafe_stream_open{name=prices,state=" + state + "}" }
	const (
		received = "streamsafe_stream_messages_received_total{name=prices}"
		serving  = "streamsafe_server_streams{grpc_method=" + demo.Method + "}"
	)
	samples := until("messages", func(m map[string]float64) bool { return m[received] > 5 })
	require.InDelta(t, 1, samples[open("attached")], 0)
	require.InDelta(t, 1, samples[serving], 0)
	server.Break()
	until("the outage", func(m map[string]float64) bool { return m["streamsafe_stream_away_seconds{name=prices}"] > 0 })
	server.Mend()
	until("the end of the outage", func(m map[string]float64) bool { return m["streamsafe_stream_outage_seconds{name=prices}"] == 1 })
	before := until("one attempt", func(m map[string]float64) bool { return m[open("attached")] == 1 && m[serving] == 1 })
	require.Zero(t, before["streamsafe_stream_away_seconds{name=prices}"])
	require.InDelta(t, 1, before["streamsafe_stream_outages_total{name=prices}"], 0)
	require.NoError(t, s.Close())
	after := until("the end", func(m map[string]float64) bool {
		return m["streamsafe_stream_ended_total{name=prices,reason=closed}"] == 1 && m[serving] == 0
	})
	require.Zero(t, after[open("attached")], "in flight goes down once")
	for key, n := range before {
		if strings.Contains(key, "_total") {
			require.GreaterOrEqual(t, after[key], n, "a counter never goes back: %s", key)
		}
	}
	require.InDelta(t, 1, after["streamsafe_stream_lifetime_seconds{name=prices}"], 0)
	for key := range after {
		require.False(t, strings.HasPrefix(key, "grpc_"), "a stream is no call: %s", key)
	}
}

// Names and methods that never end are "other" (invariant 52).
func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	c, r := newRegistry(t)
	for i := range 1000 {
		o := c.ObserveStream(t.Context(), &stream.Observed{Name: fmt.Sprintf("user %d", i)})
		require.NotNil(t, o)
		info := stream.ServerInfo{Method: fmt.Sprintf("/a.B/%d", i)}
		c.OnServerOpened(info)
		c.OnServerEnded(info, stream.ServerSummary{})
		c.OnCall(unary.Info{Method: info.Method}, time.Second, errors.New("x"))
	}
	serving := 0
	count, err := testutil.GatherAndCount(r, "streamsafe_server_streams")
	require.NoError(t, err)
	require.LessOrEqual(t, count, 101)
	for key, n := range scrapeServing(t, r) {
		require.Zero(t, n, key)
		serving++
	}
	require.Equal(t, count, serving)
}

func scrapeServing(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	found := map[string]float64{}
	for key, n := range scrape(t, r) {
		if strings.HasPrefix(key, "streamsafe_server_streams") {
			found[key] = n
		}
	}
	return found
}

func TestCallsAndTheDoor(t *testing.T) {
	t.Parallel()
	c, r := newRegistry(t)
	c.OnCall(unary.Info{Method: "/a.B/C"}, time.Second, nil)
	c.OnRetry(unary.Info{Method: "/a.B/C"})
	c.OnHedge(unary.Info{Method: "/a.B/C"})
	c.OnDenied(unary.Info{Method: "/a.B/C"}, "circuitbreaker", errors.New("open"))
	require.NoError(t, tap.Validate(tap.WithCounters(c.Tap())))
	samples := scrape(t, r)
	for _, key := range []string{
		"grpc_client_call_duration_seconds{grpc_method=/a.B/C,grpc_status=OK}", "grpc_client_call_retries_total{grpc_method=/a.B/C}",
		"grpc_client_call_hedges_total{grpc_method=/a.B/C}", "streamsafe_call_denied_total{grpc_method=/a.B/C,policy=circuitbreaker}",
	} {
		require.InDelta(t, 1, samples[key], 0, key)
	}
	require.Contains(t, samples, "streamsafe_tap_admitted_total{}")
}

// Alerts and dashboard ask for metrics that there are.
func TestAlertsAndDashboardKnowTheMetrics(t *testing.T) {
	t.Parallel()
	descs := make(chan *prometheus.Desc, 1000)
	streamprom.NewCollector().Describe(descs)
	close(descs)
	known := map[string]bool{}
	for d := range descs {
		known[regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]] = true
	}
	runbook, err := os.ReadFile("../../docs/operating.md")
	require.NoError(t, err)
	for _, name := range []string{"alerts.yml", "dashboard.json"} {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		found := regexp.MustCompile(`\b(streamsafe|grpc_client)_[a-z_]+`).FindAllString(string(data), -1)
		require.NotEmpty(t, found)
		for _, metric := range found {
			metric = regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(metric, "")
			require.True(t, known[metric], "%s asks for %s", name, metric)
		}
		if name == "dashboard.json" {
			require.True(t, json.Valid(data))
			continue
		}
		for _, alert := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(data), -1) {
			require.Contains(t, string(runbook), "### "+alert[1]+"\n", "the runbook has each alert")
		}
	}
}

// The rules are loaded into Prometheus' own checker.
func TestPromtoolAcceptsTheAlerts(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("STREAMSAFE_SERVICES_REQUIRED") != "" || os.Getenv("CI") == "true" {
			require.NoError(t, err, "CI needs promtool: the Debian package prometheus")
		}
		t.Skip("NOT TESTED: promtool is not installed (the Debian package prometheus)")
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		output, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput()
		require.NoError(t, err, "%s", output)
	}
}

// A scrape of many streams is quick, and counts nothing on the way of a message.
func BenchmarkScrape(b *testing.B) {
	c, r := streamprom.NewCollector(), prometheus.NewRegistry()
	r.MustRegister(c)
	server, err := demo.Start(b.Context())
	require.NoError(b, err)
	b.Cleanup(server.Close)
	for range 100 {
		s, err := server.Open(b.Context(), stream.WithObserver(c), stream.WithName("prices"))
		require.NoError(b, err)
		b.Cleanup(func() { _ = s.Close() })
	}
	for b.Loop() {
		_, _ = r.Gather()
	}
}
