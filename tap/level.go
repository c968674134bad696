package tap

import (
	"context"
	"strconv"

	"github.com/failsafe-go/failsafe-go/priority"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/permit"
)

// The metadata by which failsafe-go's clients tell how important an RPC is. A level goes before a priority.
const (
	levelKey    = "x-failsafe-level"
	priorityKey = "x-failsafe-priority"
)

// levelReader tells where the level of an RPC is looked for.
type levelReader uint8

const (
	noLevel         levelReader = iota // nowhere: the policy does not want it
	levelOfContext                     // in the context
	levelOfMetadata                    // in the context, and then in the metadata
)

// wanted returns r for a prioritized policy.
func (r levelReader) wanted(prioritized bool) levelReader {
	if prioritized {
		return r
	}
	return noLevel
}

// levelOf returns the level of an RPC, from 0 to 499; 0 if nobody says. Policies use it as an index: nothing else may
// pass.
func (r levelReader) levelOf(ctx context.Context, header metadata.MD) (int, *refusal) {
	lowest, highest := priority.VeryLow.MinLevel(), priority.VeryHigh.MaxLevel()
	if r == noLevel {
		return lowest, nil
	}
	if level, ok := permit.Level(ctx); ok {
		return level, nil
	}
	if r == levelOfContext {
		return lowest, nil
	}
	if level, ok, refused := number(header, levelKey, lowest, highest); ok || refused != nil {
		return level, refused
	}
	if p, ok, refused := number(header, priorityKey, int(priority.VeryLow), int(priority.VeryHigh)); ok || refused != nil {
		return priority.Priority(p).RandomLevel(), refused
	}
	return lowest, nil
}

// number reads a number from the metadata; ok tells whether there is one.
func number(header metadata.MD, key string, lowest, highest int) (n int, ok bool, refused *refusal) {
	values := header[key]
	if len(values) == 0 {
		return 0, false, nil
	}
	n, err := strconv.Atoi(values[0])
	if err != nil || len(values) > 1 || n < lowest || n > highest {
		return 0, false, &refusal{ReasonMalformed, status.Errorf(codes.InvalidArgument,
			"tap: metadata %s: one number from %d to %d is wanted", key, lowest, highest)}
	}
	return n, true, nil
}
