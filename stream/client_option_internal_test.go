package stream

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReplayLimitsDefaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ given, want ReplayLimits }{
		"zero":            {ReplayLimits{}, ReplayLimits{Messages: 16_384, Bytes: 16 << 20}},
		"given":           {ReplayLimits{Messages: 3, Bytes: 5}, ReplayLimits{Messages: 3, Bytes: 5}},
		"bytes alone":     {ReplayLimits{Messages: -1, Bytes: 160}, ReplayLimits{Messages: 2, Bytes: 160}},
		"messages alone":  {ReplayLimits{Messages: 3, Bytes: -1}, ReplayLimits{Messages: 3, Bytes: math.MaxInt}},
		"bytes, defaults": {ReplayLimits{Messages: -1}, ReplayLimits{Messages: 16<<20/96 + 1, Bytes: 16 << 20}},
	}
	for name, test := range tests {
		require.Equal(t, test.want, test.given.withDefaults(), name)
	}
}
