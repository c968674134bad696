package otel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/streamsafe/streamsafe/tap"
	"github.com/streamsafe/streamsafe/unary"
)

// OnAttempt implements [unary.AttemptObserver].
func (o *Observer) OnAttempt(info unary.Info, took time.Duration, err error) {
	if !o.options.grpc {
		return
	}
	attrs := append(o.target(), o.method(info.Method))
	ctx := context.Background()
	o.instruments.attemptStarted.Add(ctx, 1, metric.WithAttributes(attrs...))
	o.instruments.attemptDuration.Record(ctx, took.Seconds(), metric.WithAttributes(append(attrs, statusOf(err))...))
}

// OnCall implements [unary.CallObserver].
func (o *Observer) OnCall(info unary.Info, took time.Duration, err error) {
	attrs := append(o.target(), o.method(info.Method))
	ctx := context.Background()
	if info.Hedges > 0 {
		o.instruments.hedges.Record(ctx, int64(info.Hedges), metric.WithAttributes(attrs...))
	}
	if retries := info.Attempt - 1 - info.Hedges; retries > 0 {
		o.instruments.retries.Record(ctx, int64(retries), metric.WithAttributes(attrs...))
	}
	if o.options.grpc {
		o.instruments.callDuration.Record(ctx, took.Seconds(), metric.WithAttributes(append(attrs, statusOf(err))...))
	}
}

// OnDenied implements [unary.DeniedObserver].
func (o *Observer) OnDenied(info unary.Info, policy string, _ error) {
	o.denied(info, policy, "client")
}

func (o *Observer) denied(info unary.Info, policy, side string) {
	if policy == "" {
		policy = otherName // failsafe-go has not made it
	}
	o.instruments.denied.Add(context.Background(), 1,
		metric.WithAttributes(o.method(info.Method), keyPolicy.String(policy), attribute.String("streamsafe.side", side)))
}

// OnRefused implements [tap.RefusedObserver]. Anybody can be refused with any method, so it is not counted by that.
func (o *Observer) OnRefused(_ tap.Info, reason tap.Reason, err error) {
	o.instruments.tapRefused.Add(context.Background(), 1, metric.WithAttributes(keyReason.String(reason.String()), statusOf(err)))
}

// target returns grpc.target, if it was given.
func (o *Observer) target() []attribute.KeyValue {
	if o.options.target == "" {
		return nil
	}
	return []attribute.KeyValue{keyTarget.String(o.options.target)}
}

// UnaryServer is an observer for unary.WithObserver of servers.
type UnaryServer struct{ o *Observer }

// UnaryServer returns an observer for unary.WithObserver of servers. The Observer itself would count calls of a server as calls
// of a client.
func (o *Observer) UnaryServer() UnaryServer { return UnaryServer{o: o} }

// OnCall implements [unary.CallObserver].
func (u UnaryServer) OnCall(info unary.Info, took time.Duration, err error) {
	if !u.o.options.grpc {
		return
	}
	ctx, method := context.Background(), u.o.method(info.Method)
	u.o.instruments.serverCallStarted.Add(ctx, 1, metric.WithAttributes(method))
	u.o.instruments.serverCallDuration.Record(ctx, took.Seconds(), metric.WithAttributes(method, statusOf(err)))
}

// OnDenied implements [unary.DeniedObserver].
func (u UnaryServer) OnDenied(info unary.Info, policy string, _ error) {
	u.o.denied(info, policy, "server")
}
