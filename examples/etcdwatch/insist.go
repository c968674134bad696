package main

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// insist calls f until it succeeds, with a limit for each try: members come and go. It gives up when ctx is done, and
// where the answer will never be another.
func insist[R any](ctx context.Context, limit time.Duration, f func(context.Context) (R, error)) (R, error) {
	for {
		try, cancel := context.WithTimeout(ctx, limit)
		result, err := f(try)
		cancel()
		if err == nil || ctx.Err() != nil || errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrFutureRev) {
			return result, err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return result, err
		}
	}
}

// pause waits, and returns ctx's error where that is done first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await waits until a condition holds, and reports whether it did in time.
func await(ctx context.Context, limit time.Duration, holds func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !holds() {
		if pause(ctx, 5*time.Millisecond) != nil {
			return holds()
		}
	}
	return true
}
