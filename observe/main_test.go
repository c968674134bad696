package observe_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/streamsafe/streamsafe/observe/internal/demo"
	"github.com/streamsafe/streamsafe/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func start(t *testing.T, opts ...stream.ServerOption) *demo.Server {
	t.Helper()
	s, err := demo.Start(t.Context(), opts...)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func open(t *testing.T, s *demo.Server, opts ...stream.ClientOption) *demo.Stream {
	t.Helper()
	opened, err := s.Open(t.Context(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = opened.Close() })
	return opened
}
