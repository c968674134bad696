package rpcstatus_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

func TestAtDeadline(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit, cancel time.Duration
		want          bool
	}{
		"the deadline itself":          {time.Second, time.Hour, true},
		"a moment before":              {time.Second, time.Second - 10*time.Millisecond, true},
		"before":                       {time.Second, time.Second - 11*time.Millisecond, false},
		"long before":                  {time.Second, time.Millisecond, false},
		"a moment before a short one":  {10 * time.Millisecond, 9 * time.Millisecond, true},
		"in the middle of a short one": {10 * time.Millisecond, 5 * time.Millisecond, false},
		"no deadline":                  {0, time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, since := t.Context(), time.Now()
				if c.limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.limit)
					defer cancel()
				}
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				require.False(t, rpcstatus.AtDeadline(ctx, since), "it is not done")
				time.AfterFunc(c.cancel, cancel)
				<-ctx.Done()
				require.Equal(t, c.want, rpcstatus.AtDeadline(ctx, since))
			})
		})
	}
}
