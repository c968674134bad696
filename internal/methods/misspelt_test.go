package methods_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	_ "google.golang.org/grpc/interop/grpc_testing" // its services are linked in

	"github.com/streamsafe/streamsafe/internal/methods"
)

func TestMisspelt(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{
		"*", "/grpc.testing.TestService/*", "/grpc.testing.TestService/UnaryCall", "grpc.testing.TestService/UnaryCall",
		"/not.linked.In/Method", "/not.linked.In/*", "nonsense", "", "/grpc.testing.SimpleRequest/Method",
		"/grpc.testing.TestService2/UnaryCall", // another version
	} {
		require.NoError(t, methods.Misspelt(pattern), pattern)
	}
	for pattern, want := range map[string]string{
		"/grpc.testing.TestService/UnaryCal":   "grpc.testing.TestService has no method UnaryCal, but EmptyCall, UnaryCall,",
		"/grpc.testing.TestService/unarycall":  "has no method unarycall",
		"/grpc.testing.TestService/Nothing":    "has no method Nothing",
		"/grpc.testing.TestServic/UnaryCall":   "did you mean grpc.testing.TestService?",
		"/grpc.tesitng.TestService/*":          "did you mean grpc.testing.TestService?",
		"/grpc.testing.testservice/UnaryCall":  "did you mean grpc.testing.TestService?",
		"/grpc.testing.TestServicess/Anything": "did you mean grpc.testing.TestService?",
	} {
		require.ErrorContains(t, methods.Misspelt(pattern), want, pattern)
		require.ErrorContains(t, methods.Misspelt(pattern), pattern)
	}
}
