package streamtest

import (
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// mostStacks is how many goroutines a failure shows.
const mostStacks = 12

var bubbleOf = regexp.MustCompile(`^goroutine \d+ \[[^\]]*synctest bubble (\d+)\]`)

// ownBubble is the number of the bubble that the caller is in. Zero: none.
func ownBubble() int64 {
	buf := make([]byte, 200)
	return bubbleIn(string(buf[:runtime.Stack(buf, false)]))
}

func bubbleIn(stack string) int64 {
	m := bubbleOf.FindStringSubmatch(stack)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseInt(m[1], 10, 64)
	return n
}

// allStacks returns the stack of each goroutine.
func allStacks() []string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) || len(buf) >= 64<<20 {
			return strings.Split(string(buf[:n]), "\n\n")
		}
		buf = make([]byte, 4*len(buf))
	}
}

// lookAt returns what the goroutines of a bubble do, in a form that is the same if nothing has moved, and whether one of them is at
// work.
func lookAt(bubble int64) (doing string, busy bool) {
	var s strings.Builder
	for _, stack := range allStacks() {
		if bubbleIn(stack) != bubble {
			continue
		}
		head, frames, _ := strings.Cut(stack, "\n")
		number, state, _ := strings.Cut(head, "[")
		for _, working := range []string{"running", "runnable", "syscall", "IO wait"} {
			busy = busy || strings.HasPrefix(state, working)
		}
		s.WriteString(number + frames + "\n")
	}
	return s.String(), busy || s.Len() == 0
}

// bubbleStacks is the goroutines of a bubble, in short.
func bubbleStacks(bubble int64) string {
	var in []string
	for _, stack := range allStacks() {
		if bubbleIn(stack) == bubble {
			in = append(in, stack)
		}
	}
	return shorten(in)
}

// stacks is the goroutines of a run, in short.
func (c *cutter) stacks() string {
	if bubble := ownBubble(); bubble != 0 {
		return bubbleStacks(bubble)
	}
	own := packageOf(runtime.FuncForPC(reflect.ValueOf(c.scenario.Run).Pointer()).Name())
	var in []string
	for _, stack := range allStacks() {
		if strings.Contains(stack, "\n"+own+".") || strings.Contains(stack, "\ngoogle.golang.org/grpc.(*Server).handleStream") {
			in = append(in, stack)
		}
	}
	return shorten(in)
}

// packageOf is the package of a function: "a.b/c.D.func1" is in "a.b/c".
func packageOf(function string) string {
	slash := strings.LastIndex(function, "/") + 1
	name, _, _ := strings.Cut(function[slash:], ".")
	return function[:slash] + name
}

// shorten writes a line for each goroutine, and one for each of its frames. It shows the code of the scenario, or if none is there
// everything.
func shorten(stacks []string) string {
	shown := render(stacks, notOfScenario())
	if len(shown) == 0 {
		shown = render(stacks, ofRuntime())
	}
	if more := len(shown) - mostStacks; more > 0 {
		shown = append(shown[:mostStacks], fmt.Sprintf("and %d more goroutines\n", more))
	}
	return strings.Join(shown, "")
}

// render writes the stacks that have frames that are not hidden.
func render(stacks []string, hidden []string) []string {
	var out []string
	for _, stack := range stacks {
		lines := strings.Split(strings.TrimSpace(stack), "\n")
		var s strings.Builder
		for k := 1; k+1 < len(lines); k += 2 {
			function, created := strings.CutPrefix(lines[k], "created by ")
			if has(hidden, function) {
				continue
			}
			if cut := strings.LastIndex(function, "("); cut > 0 && !created {
				function = function[:cut]
			}
			place, _, _ := strings.Cut(strings.TrimSpace(lines[k+1]), " +0x")
			if created {
				function = "created by " + function
			}
			s.WriteString("    " + function + " " + place + "\n")
		}
		if s.Len() > 0 {
			out = append(out, lines[0]+"\n"+s.String())
		}
	}
	return out
}

// ofRuntime are the packages of frames that tell nothing.
func ofRuntime() []string {
	return []string{"runtime.", "sync.", "sync/", "internal/", "testing.", "testing/"}
}

// notOfScenario are the packages of frames that are no code of a scenario's.
func notOfScenario() []string {
	return append(ofRuntime(), "bufio.", "io.", "net.", "google.golang.org/grpc/", "google.golang.org/grpc.", "golang.org/x/net/",
		"github.com/streamsafe/streamsafe/internal/testnet.", "github.com/streamsafe/streamsafe/stream/streamtest.")
}

func has(prefixes []string, s string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}
