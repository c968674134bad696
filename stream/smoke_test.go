package stream_test

import (
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

func TestExchangeWithoutFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{total: 50})
		s := w.mustOpen(stream.WithReplay(stream.ReplayLimits{}))
		got, sendErr, recvErr := exchange(s, 50)
		require.NoError(t, sendErr)
		require.ErrorIs(t, recvErr, io.EOF)
		require.Equal(t, upTo(50), got)
		require.Equal(t, upTo(50), w.feed.stored)
	})
}

func TestExchangeWithOneCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{total: 50})
		w.Arm(testnet.Fault{Kind: testnet.RST, Direction: testnet.ToClient, Message: 20, Where: testnet.Inside})
		s := w.mustOpen(stream.WithReplay(stream.ReplayLimits{}))
		got, sendErr, recvErr := exchange(s, 50)
		require.NoError(t, sendErr)
		require.ErrorIs(t, recvErr, io.EOF)
		require.Equal(t, upTo(50), got)
		require.Equal(t, upTo(50), w.feed.stored)
		require.Equal(t, uint64(1), s.Stats().Resumes)
	})
}
