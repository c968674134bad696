package testnet

import (
	"context"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestServerStartsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		_, err := m.Dial(t.Context(), "x")
		require.ErrorIs(t, err, syscall.ECONNREFUSED, "nobody listens yet")
		for range 2 {
			l := m.Listener()
			dialled := make(chan net.Conn, 1)
			go func() { // ends when the connection is accepted below
				c, err := m.Dial(t.Context(), "x")
				assert.NoError(t, err)
				dialled <- c
			}()
			server, err := l.Accept()
			require.NoError(t, err)
			assert.Equal(t, "network", server.RemoteAddr().String())
			assert.Equal(t, "server", server.LocalAddr().String())
			require.NoError(t, l.Close())
			require.NoError(t, server.Close())
			_, err = (<-dialled).Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
			_, err = l.Accept()
			require.ErrorIs(t, err, net.ErrClosed)
			_, err = m.Dial(t.Context(), "x")
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
		}
		m.Listener()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = m.Dial(ctx, "x")
		require.ErrorIs(t, err, context.DeadlineExceeded, "nobody accepts")
		require.NoError(t, m.Close())
	})
}
