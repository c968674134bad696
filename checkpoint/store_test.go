package checkpoint_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/storetest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) checkpoint.Store { return new(checkpoint.Memory) })
}

func TestFileKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) checkpoint.Store {
		t.Helper()
		f, err := checkpoint.OpenFile(t.TempDir())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, f.Close()) })
		return f
	})
}

func TestFileKeepsTheContractWhenOpenedAgain(t *testing.T) {
	t.Parallel()
	storetest.RunDurable(t, func(t *testing.T, place string) checkpoint.Store {
		t.Helper()
		f, err := checkpoint.OpenFile(place)
		require.NoError(t, err)
		return f
	})
}
