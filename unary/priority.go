package unary

import (
	"context"
	"fmt"
	"strconv"

	"github.com/failsafe-go/failsafe-go/priority"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// The metadata in which failsafe-go passes on priorities.
const (
	levelKey    = "x-failsafe-level"
	priorityKey = "x-failsafe-priority"
)

// sendPriority puts the level of ctx, or else its priority, into the metadata that go out. One that is out of range
// does not go out: the server would refuse it.
func sendPriority(ctx context.Context) context.Context {
	if level, ok := ctx.Value(priority.LevelKey).(int); ok {
		if isLevel(level) {
			return withOutgoing(ctx, levelKey, level)
		}
		return ctx
	}
	if p := priority.FromContext(ctx); isPriority(int(p)) {
		return withOutgoing(ctx, priorityKey, int(p))
	}
	return ctx
}

// withOutgoing sets a key in the metadata that go out. It replaces what is there: a server refuses two values.
func withOutgoing(ctx context.Context, key string, value int) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = make(metadata.MD, 1)
	}
	md.Set(key, strconv.Itoa(value))
	return metadata.NewOutgoingContext(ctx, md)
}

// receivePriority puts the level or the priority that came in into ctx. A prioritized policy uses them as an index, so
// nothing out of range may pass.
func receivePriority(ctx context.Context) (context.Context, error) {
	level, ok, err := incoming(ctx, levelKey, isLevel)
	if err != nil {
		return ctx, err
	}
	if ok {
		return priority.ContextWithLevel(ctx, level), nil
	}
	value, ok, err := incoming(ctx, priorityKey, isPriority)
	if err != nil || !ok {
		return ctx, err
	}
	p := priority.Priority(value)
	return priority.ContextWithLevel(p.AddTo(ctx), p.RandomLevel()), nil
}

func incoming(ctx context.Context, key string, valid func(int) bool) (value int, ok bool, err error) {
	values := metadata.ValueFromIncomingContext(ctx, key)
	if len(values) == 0 {
		return 0, false, nil
	}
	value, err = strconv.Atoi(values[0])
	if err != nil || len(values) > 1 || !valid(value) {
		return 0, false, status.Error(codes.InvalidArgument, fmt.Sprintf("unary: metadata %s: one number in range is wanted", key))
	}
	return value, true, nil
}

func isLevel(level int) bool {
	return priority.VeryLow.MinLevel() <= level && level <= priority.VeryHigh.MaxLevel()
}

func isPriority(p int) bool { return int(priority.VeryLow) <= p && p <= int(priority.VeryHigh) }
