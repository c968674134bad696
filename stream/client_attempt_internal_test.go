package stream

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// grpc aborts an attempt for a bad message, and Recv may hear of it before Send does, as CANCELLED or in Send's own words.
// That is not the server's last word. What the server says at the same time is.
func TestEndOfAnAttemptThatGRPCHasAborted(t *testing.T) {
	t.Parallel()
	tooLarge := status.Error(codes.ResourceExhausted, "trying to send message larger than max")
	tests := map[string]struct {
		bad, told error
		ours      bool
	}{
		"as a cancel":                    {bad: tooLarge, told: status.Error(codes.Canceled, "context canceled"), ours: true},
		"in the words of Send":           {bad: tooLarge, told: tooLarge, ours: true},
		"the server's word":              {bad: tooLarge, told: status.Error(codes.PermissionDenied, "no")},
		"the server says OK":             {bad: errors.New("an interceptor's own"), told: io.EOF},
		"no bad message":                 {told: tooLarge},
		"no bad message, and cancelled":  {told: status.Error(codes.Canceled, "by the server")},
		"an interceptor's own, the same": {bad: errors.New("no"), told: errors.New("no"), ours: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAttempt[int, int](t.Context(), 1, nil)
			if test.bad != nil {
				a.abortedBy(&loss{op: "send", err: test.bad, origin: fromStream})
			}
			a.fail(&loss{op: "recv", err: test.told})
			require.Equal(t, test.ours, a.endedBy().origin == fromStream)
		})
	}
}
