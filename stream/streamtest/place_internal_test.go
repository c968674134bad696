package streamtest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	first := place{kind: RST, connection: 1, direction: ToClient, message: 17, of: 40, where: After}
	again := place{kind: FIN, connection: 2, direction: ToServer, message: 1, where: Before, phase: inResume}
	assert.Equal(t, "cut (RST) after response 17 of 40", describe([]place{first}))
	assert.Equal(t, "cut (RST) after response 17 of 40, again in Resume (FIN) before request 1 of connection 2", describe([]place{first, again}))
	again.phase = ""
	first.kind, first.where = StallToClient, Inside
	assert.Equal(t, "stall to client in response 17 of 40, again (FIN) before request 1 of connection 2", describe([]place{first, again}))
	assert.Equal(t, "stall to client in response 17", first.name())
	assert.Equal(t, "FIN before request 1 of connection 2", again.name())
	assert.Equal(t, "repeat it: go test -run '^TestX$/^FIN_\\(1\\)$' .", repeat("TestX/FIN_(1)"))
}

// Names of sub-tests have to be the same after go test has rewritten them.
func TestNamesCanBeRepeated(t *testing.T) {
	t.Parallel()
	for k := FIN; k <= Refusal; k++ {
		assert.NotContains(t, repeat(strings.ReplaceAll(place{kind: k, message: 1}.name(), " ", "_")), `\`)
	}
}

// base is an undisturbed run: a hello, three texts, and as many answers.
func base() []passage {
	return []passage{{Begun: [2]int{4, 4}, Sums: [2][]uint64{{100, 1, 2, 3}, {200, 11, 12, 13}}}}
}

func TestPlacesAreAllPlaces(t *testing.T) {
	t.Parallel()
	c := &cutter{options: cutOptionsOf([]CutOption{WithKinds(RST, StallToServer, BlackHoleToClient, Truncate), nil}), base: base()}
	count := make(map[Kind]int)
	names := make(map[string]bool)
	for _, p := range c.places() {
		count[p.kind]++
		names[p.name()] = true
		assert.Equal(t, 4, p.of)
	}
	assert.Equal(t, map[Kind]int{RST: 24, StallToServer: 12, BlackHoleToClient: 12, Truncate: 8}, count)
	assert.Len(t, names, 56, "each has a name of its own")
	c.base = append(base(), base()...)
	assert.Len(t, c.places(), 112, "a run may have more than one connection")
}

// What the client does on the second connection is told by its bytes.
func TestPhases(t *testing.T) {
	t.Parallel()
	c := &cutter{base: base()}
	before := passage{Begun: [2]int{3, 2}} // the hello, and two texts
	after := passage{Sums: [2][]uint64{{101, 1, 2, 3}, {201, 12, 13}}}
	phase := func(d Direction, message int) string {
		return c.phase(place{direction: d, message: message}, before, after)
	}
	assert.Equal(t, inResume, phase(ToServer, 1), "a hello that is another one")
	assert.Equal(t, inReplay, phase(ToServer, 2))
	assert.Equal(t, inReplay, phase(ToServer, 3))
	assert.Empty(t, phase(ToServer, 4), "a text that was never sent")
	assert.Empty(t, phase(ToServer, 5), "unknown")
	assert.Equal(t, inResume, phase(ToClient, 1), "the answer to the hello")
	assert.Empty(t, phase(ToClient, 2))

	after.Sums[ToServer] = []uint64{1, 2, 3} // no hello
	assert.Equal(t, inReplay, phase(ToServer, 1))
	assert.Empty(t, phase(ToClient, 1))
}

// After the message in the middle and the last one everything is cut again, and after each other one something.
func TestSecondCuts(t *testing.T) {
	t.Parallel()
	c := &cutter{options: cutOptionsOf(nil), base: base()}
	after := result{cuts: make([]testnet.Cut, 1), passages: append(base(), base()...)}
	all := make(map[string]int) // second cuts, by name
	kinds := make(map[Kind]int)
	for _, p := range c.places() {
		if p.kind != RST && p.kind != FIN {
			continue
		}
		again := c.again(p, after)
		middle := p.kind == RST && p.where == After && (p.message == 2 || p.message == 4)
		if middle {
			require.Len(t, again, 24, "%v", p.name())
			continue
		}
		require.Len(t, again, inTurn, "%v", p.name())
		for _, a := range again {
			require.Equal(t, 2, a.connection)
			all[a.at()]++
			kinds[a.kind]++
		}
	}
	assert.Len(t, all, 18, "each of the first %d messages, each way, has its turn: %v", resumes, all)

	assert.InDelta(t, kinds[RST], kinds[FIN], 4, "both kinds in turn")

	p := c.places()[0]
	assert.Empty(t, c.again(p, result{passages: base(), cuts: after.cuts}), "there was no other connection")
	assert.Empty(t, c.again(p, result{passages: after.passages}), "there was no first cut")
	c.options.kinds = []Kind{Truncate, BlackHole}
	for _, a := range c.again(c.places()[0], after) {
		assert.Equal(t, Inside, a.where)
		assert.Equal(t, Truncate, a.kind)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	o := cutOptionsOf([]CutOption{WithLimit(-1), WithFaultsFor(0), WithKinds()})
	assert.Equal(t, memoryLimit, o.limit)
	assert.Equal(t, memoryLasts, o.lasts)
	assert.Equal(t, []Kind{RST, FIN, Refusal, BlackHole, StallToServer, StallToClient}, o.kinds)
	o = cutOptionsOf([]CutOption{WithTCP(), WithBudget(-1)})
	assert.Equal(t, tcpLimit, o.limit)
	assert.Equal(t, []Kind{RST, FIN}, o.kinds)
	assert.Zero(t, o.budget)
	assert.True(t, o.budgeted, "go test -short makes no difference")
}

func TestShorten(t *testing.T) {
	t.Parallel()
	stack := "goroutine 7 [chan receive]:\nruntime.gopark(0x1)\n\t/go/proc.go:1 +0x2\nexample.com/chat.(*server).Talk(0x1, {0x2, 0x3})\n" +
		"\t/chat/server.go:50 +0x2f\ncreated by google.golang.org/grpc.(*Server).serve in goroutine 3\n\t/grpc/server.go:10 +0x1"
	other := "goroutine 8 [select]:\ngoogle.golang.org/grpc.x()\n\t/grpc/x.go:1 +0x2"
	assert.Equal(t, "goroutine 7 [chan receive]:\n    example.com/chat.(*server).Talk /chat/server.go:50\n", shorten([]string{stack, other}))
	assert.Equal(t, "goroutine 8 [select]:\n    google.golang.org/grpc.x /grpc/x.go:1\n", shorten([]string{other}), "if there is nothing else")
	many := make([]string, mostStacks+3)
	for i := range many {
		many[i] = stack
	}
	assert.Contains(t, shorten(many), "and 3 more goroutines\n")
	assert.Equal(t, "a.b/c_test", packageOf("a.b/c_test.TestX.func1"))
	assert.Equal(t, "main", packageOf("main.(*server).Talk"))
}
