package testnet

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTCPResetsWhatItRefuses(t *testing.T) {
	t.Parallel()
	for _, refuse := range []bool{true, false} {
		p, err := NewTCP("127.0.0.1:1") // nobody listens there
		require.NoError(t, err)
		p.Refuse(refuse)
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.Addr())
		if err == nil {
			_, err = c.Read(make([]byte, 1))
			require.NoError(t, c.Close())
		}
		require.ErrorIs(t, err, syscall.ECONNRESET)
		assert.Equal(t, 1, p.Stats().Refused)
		require.NoError(t, p.Close())
	}
}
