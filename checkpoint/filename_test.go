package checkpoint

import (
	"crypto/rand"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestFileNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, "k-orders_7.checkpoint", fileName("orders_7"), "a short key can be read in its name")
	require.Equal(t, "k-%2e%2e%2f%41%00.checkpoint", fileName("../A\x00"))
	require.Equal(t, "h-", fileName(strings.Repeat("k", 250))[:2], "a long key is hashed")
}

func TestFileNamesAreSafeAndDifferent(t *testing.T) {
	t.Parallel()
	safe := regexp.MustCompile(`^[kh]-[a-z0-9%_-]*\.checkpoint$`)
	key := rapid.Custom(func(t *rapid.T) string {
		alphabet := rapid.SampledFrom([]byte("aAbB%24h-_/.\x00\xff"))
		return string(rapid.SliceOfN(alphabet, 1, rapid.SampledFrom([]int{2, 80, 300}).Draw(t, "longest")).Draw(t, "key"))
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := key.Draw(t, "a"), key.Draw(t, "b")
		require.Regexp(t, safe, fileName(a))
		require.LessOrEqual(t, len(fileName(a)+"."+rand.Text()+tempExt), 255)
		require.Equal(t, a == b, strings.EqualFold(fileName(a), fileName(b)))
		require.False(t, leftover(fileName(a)))
		require.True(t, leftover(fileName(a)+"."+rand.Text()+tempExt))
		require.True(t, keeps(fileName(a)))
		require.NotEqual(t, floorName, fileName(a))
	})
}
