package tap

import (
	"context"
	"strconv"

	"github.com/failsafe-go/failsafe-go/priority"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// The metadata by which failsafe-go's clients tell how important an RPC is. A level goes before a priority.
const (
	levelKey    = "x-failsafe-level"
	priorityKey = "x-failsafe-priority"
)

// levelOf returns the level of an RPC, from 0 to 499; 0 where nobody says, or where the policy does not want it.
func levelOf(ctx context.Context, header metadata.MD, wanted bool) (int, *refusal) {
	if !wanted {
		return 0, nil
	}
	lowest, highest := priority.VeryLow.MinLevel(), priority.VeryHigh.MaxLevel()
	if level := priority.LevelFromContext(ctx); level >= 0 {
		return min(level, highest), nil
	}
	if values := header[levelKey]; len(values) > 0 {
		level, err := strconv.Atoi(values[0])
		if err != nil || level < lowest || level > highest {
			return 0, malformed(levelKey, lowest, highest)
		}
		return level, nil
	}
	if values := header[priorityKey]; len(values) > 0 {
		p, err := strconv.Atoi(values[0])
		if err != nil || p < int(priority.VeryLow) || p > int(priority.VeryHigh) {
			return 0, malformed(priorityKey, int(priority.VeryLow), int(priority.VeryHigh))
		}
		return priority.Priority(p).RandomLevel(), nil
	}
	return lowest, nil
}

func malformed(key string, lowest, highest int) *refusal {
	return &refusal{ReasonMalformed, status.Errorf(codes.InvalidArgument, "%s is no number from %d to %d", key, lowest, highest)}
}
