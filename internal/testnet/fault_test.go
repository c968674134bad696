package testnet

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNames(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "FIN after message 3 to client", Fault{Direction: ToClient, Message: 3, Where: After}.String())
	assert.Equal(t, "truncate after 7 bytes to server", Fault{Kind: Truncate, Bytes: 7}.String())
	assert.Equal(t, "9", Kind(9).String())
}
