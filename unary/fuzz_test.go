package unary_test

import (
	"context"
	"testing"

	"github.com/failsafe-go/failsafe-go/priority"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/unary"
)

// Whatever a client sends as its priority, the handler sees one in range or is not called.
func FuzzPriorityMetadata(f *testing.F) {
	for _, seed := range []string{"", "0", "4", "499", "500", "-1", "+7", "1e3", "0x1F", "9223372036854775808", "high"} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	in := unary.ServerInterceptor(unary.WithPriority(), unary.WithPolicies(throttler()))
	f.Fuzz(func(t *testing.T, value string, level bool) {
		key := "x-failsafe-priority"
		if level {
			key = "x-failsafe-level"
		}
		called := false
		_, err := handle(metadata.NewIncomingContext(t.Context(), metadata.MD{key: {value}}), in, func(ctx context.Context) (any, error) {
			called = true
			if l := priority.LevelFromContext(ctx); l < 0 || l > 499 {
				t.Errorf("%s %q gives level %d", key, value, l)
			}
			return text("ok"), nil
		})
		if called != (err == nil) || !called && status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s %q: called %v, %v", key, value, called, err)
		}
	})
}
