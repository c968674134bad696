package testnet

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestChaosPlan(t *testing.T) {
	t.Parallel()
	draw := func(c Chaos) []Fault {
		next := c.plan()
		var out []Fault
		for range 200 {
			f, ok := next()
			if !ok {
				break
			}
			out = append(out, f)
		}
		return out
	}
	seed := rand.Uint64()
	plan := draw(Chaos{Seed: seed, Messages: 10})
	assert.Equal(t, plan, draw(Chaos{Seed: seed, Messages: 10}))
	assert.NotEqual(t, plan, draw(Chaos{Seed: seed + 1, Messages: 10}))
	sum := 0
	for _, f := range plan {
		assert.Contains(t, []Kind{FIN, RST}, f.Kind)
		assert.Positive(t, f.Message)
		sum += f.Message
	}
	assert.InDelta(t, 10, float64(sum)/200, 3, "the mean")
	assert.Len(t, draw(Chaos{Limit: 7}), 7)
	narrow := Chaos{Bytes: 100, Kinds: []Kind{BlackHole}, Directions: []Direction{ToClient}, Places: []Where{After}}
	narrow.For = time.Second
	for _, f := range draw(narrow) {
		assert.Zero(t, f.Message)
		assert.LessOrEqual(t, f.Bytes, int64(200))
		f.Bytes = 0
		assert.Equal(t, Fault{Kind: BlackHole, Direction: ToClient, Where: After, Total: true, For: time.Second}, f)
	}
}

func TestChaosIsRepeatable(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (cuts []Cut) {
		synctest.Test(t, func(t *testing.T) {
			m := NewMemory()
			w := &world{Network: m.Network, name: "memory", listener: m.Listener(), client: m.Client, close: m.Close}
			open := w.opener(t)
			stop := w.Chaos(Chaos{Seed: seed, Messages: 5, Kinds: []Kind{FIN, RST, StallToClient, Truncate}, For: time.Second})
			talk(t, open, 20, 12)
			cuts = w.Cuts()
			stop()
			before := len(cuts)
			talk(t, open, 1, 100)
			assert.Len(t, w.Cuts(), before, "no more")
		})
		return cuts
	}
	first := run(1)
	assert.Greater(t, len(first), 10)
	assert.Equal(t, first, run(1))
	assert.NotEqual(t, first, run(2))
}
