package stream_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// watchdog ends a test that waits for what does not come: for the end of a stream, say, that resumes again and again. It
// counts the time of the bubble, which passes fast where nobody does anything else than wait. It does not see a loop in
// which no time passes: whoever fakes a stream has to count calls.
type watchdog struct {
	t *testing.T

	mu      sync.Mutex // guards the fields below
	timer   *time.Timer
	over    bool // the test has ended
	cancels []context.CancelCauseFunc
}

// longTest is longer than tests take.
func longTest() time.Duration {
	if inBubble() {
		return 100 * time.Hour
	}
	return 2 * time.Minute
}

// errWatchdog is what the streams of a test end with that took too long.
var errWatchdog = errors.New("the test took too long")

// newWatchdog watches the test until that ends.
func newWatchdog(t *testing.T) *watchdog {
	t.Helper()
	d := &watchdog{t: t}
	d.sleep(longTest(), d.bark)
	t.Cleanup(func() {
		d.cancel(context.Canceled)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.over = true
		d.timer.Stop()
	})
	return d
}

// sleep makes d do something after a while, in place of what it was to do.
func (d *watchdog) sleep(long time.Duration, then func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	if !d.over {
		d.timer = time.AfterFunc(long, then)
	}
}

// context returns a context for a stream, which d can end.
func (d *watchdog) context(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cancels = append(d.cancels, cancel)
	return ctx
}

func (d *watchdog) cancel(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, cancel := range d.cancels {
		cancel(cause)
	}
	d.cancels = nil
}

// bark fails the test, and ends its streams, so that it goes on and says what it has missed.
func (d *watchdog) bark() {
	d.t.Errorf("the test waits in vain at %v: its streams are ended", waitsAt(d.t))
	d.cancel(errWatchdog)
	d.sleep(longTest(), func() {
		panic(fmt.Sprintf("%s still waits at %v, though its streams have ended", d.t.Name(), waitsAt(d.t))) //nolint:forbidigo // nothing else ends it
	})
}

var testLine = regexp.MustCompile(`/(\w+_test\.go:\d+)`)

// waitsAt returns the lines at which the goroutines of t's function stand.
func waitsAt(t *testing.T) []string {
	t.Helper()
	stacks := make([]byte, 8<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	name, _, _ := strings.Cut(t.Name(), "/")
	var lines []string
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if !strings.Contains(stack, "stream_test."+name+".") || strings.Contains(stack, "waitsAt") {
			continue
		}
		if line := testLine.FindStringSubmatch(stack); line != nil && !slices.Contains(lines, line[1]) {
			lines = append(lines, line[1])
		}
	}
	return lines
}
