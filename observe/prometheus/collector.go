// Package prometheus has metrics of streams, calls and admissions for Prometheus.
//
//	collector := streamprom.NewCollector()
//	prometheus.MustRegister(collector)
//	s, err := stream.Resilient(ctx, client.Watch, callbacks, stream.WithName("prices"), stream.WithObserver(collector))
//
// A [Collector] is an observer of package stream, for clients and servers, and of package unary. For package tap give it to
// tap.WithCounters: [Collector.Tap].
//
// # Labels
//
// Labels are closed sets. name is what WithName has given a stream: beyond 100 names it is "other", so do not put a user into it.
// grpc_method is bounded in the same way. All others are constants of this module's packages.
//
// # No double counting
//
// An attempt of a stream is a call to gRPC's own metrics, and to those of interceptors. So the metrics of streams have names of their
// own, with the prefix streamsafe_, and never count as calls. The lifetime of a stream is no latency, and has a histogram of
// its own. For unary calls, whose retries no other plugin sees, the names are those of gRFC A66 and A96.
//
// The counters are read from the streams when they are scraped: nothing is on the way of a message.
package prometheus

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/observe/internal/tally"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/tap"
	"github.com/streamsafe/streamsafe/unary"
)

// maxNames is how many names and methods there are, beside "other".
const maxNames = 100

// Collector collects metrics. Register it, and give it to WithObserver. It may be shared by all streams of a process.
type Collector struct {
	streams tally.Streams
	tap     tap.Counters

	gauges, counters []metric
	states           *prometheus.Desc
	refused          *prometheus.Desc
	tapDescs         [3]*prometheus.Desc

	ended     *prometheus.CounterVec
	lifetime  *prometheus.HistogramVec
	outage    *prometheus.HistogramVec
	serving   *prometheus.GaugeVec
	served    *prometheus.HistogramVec
	turned    prometheus.Counter
	abandoned prometheus.Counter
	calls     *prometheus.HistogramVec
	retries   *prometheus.CounterVec
	hedges    *prometheus.CounterVec
	denied    *prometheus.CounterVec

	mu      sync.Mutex // guards the field below
	methods map[string]bool
}

// metric is a figure of a Sum.
type metric struct {
	desc  *prometheus.Desc
	value func(*tally.Sum) float64
}

// long are the buckets of lifetimes and outages, in seconds: to a day.
func long() []float64 { return []float64{0.1, 0.5, 1, 5, 15, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600} }

// NewCollector returns a collector.
func NewCollector() *Collector {
	c := &Collector{methods: make(map[string]bool)}
	c.streams.Limit = maxNames
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("streamsafe_"+name, help, labels, nil)
	}
	counter := func(name, help string, value func(*tally.Sum) uint64) {
		c.counters = append(c.counters, metric{desc("stream_"+name+"_total", help, "name"), func(s *tally.Sum) float64 { return float64(value(s)) }})
	}
	gauge := func(name, help string, value func(*tally.Sum) float64) {
		c.gauges = append(c.gauges, metric{desc("stream_"+name, help, "name"), value})
	}
	counter("started", "Streams that were opened.", func(s *tally.Sum) uint64 { return s.Started })
	counter("attempts", "Attempts of streams.", func(s *tally.Sum) uint64 { return s.Attempts })
	counter("outages", "Attempts that were lost after they had been attached.", func(s *tally.Sum) uint64 { return s.Outages })
	counter("resumes", "Attempts that were attached, without the first of a stream.", func(s *tally.Sum) uint64 { return s.Resumes })
	counter("rotations", "Planned rotations.", func(s *tally.Sum) uint64 { return s.Rotations })
	counter("messages_sent", "Messages that Send has accepted.", func(s *tally.Sum) uint64 { return s.Sent })
	counter("messages_replayed", "Messages that were sent again.", func(s *tally.Sum) uint64 { return s.Replayed })
	counter("messages_acknowledged", "Messages that the server has acknowledged.", func(s *tally.Sum) uint64 { return s.Acked })
	counter("messages_received", "Messages that have arrived.", func(s *tally.Sum) uint64 { return s.Received })
	counter("messages_duplicate", "Messages that came again and were dropped.", func(s *tally.Sum) uint64 { return s.Duplicates })
	counter("commit_failures", "Positions that could not be stored.", func(s *tally.Sum) uint64 { return s.CommitFailed })
	gauge("unacknowledged_messages", "Messages that are kept until they are acknowledged.", func(s *tally.Sum) float64 { return float64(s.Unacked) })
	gauge("unacknowledged_bytes", "Their encoded size.", func(s *tally.Sum) float64 { return float64(s.UnackedBytes) })
	gauge("waiting_messages", "Messages that have arrived and that the application has not received.", func(s *tally.Sum) float64 { return float64(s.Waiting) })
	gauge("held_messages", "Messages that are held until a checkpoint.", func(s *tally.Sum) float64 { return float64(s.Held) })
	gauge("away_seconds", "The longest time that a stream is without an attempt.", func(s *tally.Sum) float64 { return s.Away.Seconds() })
	gauge("unmoved_seconds", "The longest time that a stream has unacknowledged messages and no acknowledgement has come, by scrapes.", func(s *tally.Sum) float64 { return s.Unmoved.Seconds() })
	gauge("silent_seconds", "The longest time that nothing has arrived on a stream, by scrapes.", func(s *tally.Sum) float64 { return s.Silent.Seconds() })
	c.states = desc("stream_open", "Streams that are open, by state.", "name", "state")
	c.refused = desc("tap_refused_total", "RPCs that were refused at the door.", "reason")
	c.tapDescs = [...]*prometheus.Desc{
		desc("tap_admitted_total", "RPCs that were admitted."), desc("tap_running", "RPCs that were admitted and have not ended."),
		desc("tap_failed_total", "RPCs that have ended by the server's fault."),
	}
	c.vectors()
	c.streams.Ended = func(name, reason string, lifetime time.Duration) {
		c.ended.WithLabelValues(name, reason).Inc()
		c.lifetime.WithLabelValues(name).Observe(lifetime.Seconds())
	}
	c.streams.Attached = func(name string, away time.Duration, first bool) {
		if !first {
			c.outage.WithLabelValues(name).Observe(away.Seconds())
		}
	}
	return c
}

// vectors makes what events count.
func (c *Collector) vectors() {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	c.ended = counter("streamsafe_stream_ended_total", "Streams that have ended, by reason.", "name", "reason")
	c.lifetime = histogram("streamsafe_stream_lifetime_seconds", "How long streams have lived.", long(), "name")
	c.outage = histogram("streamsafe_stream_outage_seconds", "How long streams were without an attempt.", long(), "name")
	c.serving = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "streamsafe_server_streams", Help: "Streams that are open on this server.",
	}, []string{"grpc_method"})
	c.served = histogram("streamsafe_server_stream_lifetime_seconds", "How long streams on this server have lived, by end.", long(), "grpc_method", "end")
	c.turned = prometheus.NewCounter(prometheus.CounterOpts{Name: "streamsafe_server_refused_total", Help: "Streams that this server has refused."})
	c.abandoned = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "streamsafe_server_late_total", Help: "Handlers that have returned after their stream was ended early.",
	})
	c.calls = histogram("grpc_client_call_duration_seconds", "How long unary calls took, policies included.", prometheus.DefBuckets, "grpc_method", "grpc_status")
	c.retries = counter("grpc_client_call_retries_total", "Retries of unary calls by policies.", "grpc_method")
	c.hedges = counter("grpc_client_call_hedges_total", "Hedges of unary calls.", "grpc_method")
	c.denied = counter("streamsafe_call_denied_total", "Tries of unary calls that a policy has denied.", "grpc_method", "policy")
}

func (c *Collector) all() []prometheus.Collector {
	return []prometheus.Collector{
		c.ended, c.lifetime, c.outage, c.serving, c.served, c.turned, c.abandoned, c.calls, c.retries, c.hedges, c.denied,
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, m := range append(c.counters, c.gauges...) {
		descs <- m.desc
	}
	descs <- c.states
	descs <- c.refused
	for _, d := range c.tapDescs {
		descs <- d
	}
	for _, v := range c.all() {
		v.Describe(descs)
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	for _, s := range c.streams.Snapshot(time.Now()) {
		for _, m := range c.counters {
			metrics <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, m.value(s), s.Name)
		}
		for _, m := range c.gauges {
			metrics <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.value(s), s.Name)
		}
		for _, state := range [...]stream.State{stream.Opening, stream.Attached, stream.Detached, stream.Rotating} {
			metrics <- prometheus.MustNewConstMetric(c.states, prometheus.GaugeValue, float64(s.States[state]), s.Name, state.String())
		}
	}
	door := c.tap.Stats()
	for reason, n := range door.Refused {
		metrics <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(n), reason.String())
	}
	metrics <- prometheus.MustNewConstMetric(c.tapDescs[0], prometheus.CounterValue, float64(door.Admitted))
	metrics <- prometheus.MustNewConstMetric(c.tapDescs[1], prometheus.GaugeValue, float64(door.Running))
	metrics <- prometheus.MustNewConstMetric(c.tapDescs[2], prometheus.CounterValue, float64(door.Failed))
	for _, v := range c.all() {
		v.Collect(metrics)
	}
}

// Tap returns counters for tap.WithCounters.
func (c *Collector) Tap() *tap.Counters { return &c.tap }

// ObserveStream implements stream.StreamObserver.
func (c *Collector) ObserveStream(ctx context.Context, s *stream.Observed) stream.Observer { //nolint:ireturn // as the interface has it
	return c.streams.ObserveStream(ctx, s)
}

// method returns the label of a method.
func (c *Collector) method(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.methods[name] {
		return name
	}
	if len(c.methods) >= maxNames {
		return tally.Other
	}
	c.methods[name] = true
	return name
}

// OnServerOpened implements stream.ServerOpenedObserver.
func (c *Collector) OnServerOpened(info stream.ServerInfo) {
	c.serving.WithLabelValues(c.method(info.Method)).Inc()
}

// OnServerEnded implements stream.ServerEndedObserver.
func (c *Collector) OnServerEnded(info stream.ServerInfo, summary stream.ServerSummary) {
	method := c.method(info.Method)
	c.serving.WithLabelValues(method).Dec()
	c.served.WithLabelValues(method, summary.End.String()).Observe(summary.Duration.Seconds())
}

// OnServerRefused implements stream.ServerRefusedObserver.
func (c *Collector) OnServerRefused(stream.ServerInfo, error) { c.turned.Inc() }

// OnServerAbandoned implements stream.ServerAbandonedObserver.
func (c *Collector) OnServerAbandoned(stream.ServerInfo, time.Duration, *stream.PanicError) {
	c.abandoned.Inc()
}

// OnCall implements unary.CallObserver.
func (c *Collector) OnCall(info unary.Info, took time.Duration, err error) {
	c.calls.WithLabelValues(c.method(info.Method), status.Code(err).String()).Observe(took.Seconds())
}

// OnRetry implements unary.RetryObserver.
func (c *Collector) OnRetry(info unary.Info) {
	c.retries.WithLabelValues(c.method(info.Method)).Inc()
}

// OnHedge implements unary.HedgeObserver.
func (c *Collector) OnHedge(info unary.Info) { c.hedges.WithLabelValues(c.method(info.Method)).Inc() }

// OnDenied implements unary.DeniedObserver.
func (c *Collector) OnDenied(info unary.Info, policy string, _ error) {
	c.denied.WithLabelValues(c.method(info.Method), policy).Inc()
}
