package stream_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"path"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
)

var (
	chaosSeed  = flag.Uint64("chaos.seed", 0, "TestChaos: the seed of the only schedule to run")
	chaosRuns  = flag.Uint64("chaos.runs", 100, "TestChaos: how many schedules to run")
	chaosFirst = flag.Uint64("chaos.first", 1, "TestChaos: the seed of the first of them")
	chaosLimit = flag.Duration("chaos.limit", 20*time.Second, "TestChaos: how long a schedule may take")
)

// TestChaos runs random schedules over real sockets, and holds journals of both ends against what the stream guarantees. A
// failure begins with the name of what is broken: ordered, nothing lost; nothing lost in the middle; nothing is doubled; a
// number is one message; nothing is made up; no loss looks like success; what was not sent is not there; at most once; a lost position is told;
// truthful end; truthful counts; fenced; commits are processed; commits are complete; commits reach the store; bounded; a denial
// is one of a policy; permits are given back. In the end no goroutine is left.
func TestChaos(t *testing.T) { //nolint:paralleltest // goleak sees the goroutines of all tests; the schedules are parallel
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	first, runs := *chaosFirst, *chaosRuns
	if *chaosSeed > 0 {
		first, runs = *chaosSeed, 1
	}
	seeds := make(chan uint64)
	var workers sync.WaitGroup
	var reports atomic.Int32
	var seen tally
	for range min(16, runs) {
		workers.Go(func() { // ends when seeds is closed; the last line waits for it
			for seed := range seeds {
				if report := runSchedule(seed, &seen); report != "" {
					reports.Add(1)
					t.Error(report)
				}
			}
		})
	}
	for seed := first; seed < first+runs && reports.Load() < 5; seed++ {
		seeds <- seed
	}
	close(seeds)
	workers.Wait()
	t.Log(seen.String())
	if runs >= 60 && reports.Load() == 0 {
		seen.isEnough(t)
	}
}

// runSchedule runs the schedule of a seed, and reports what is wrong.
func runSchedule(seed uint64, seen *tally) (report string) {
	pprof.Do(context.Background(), pprof.Labels("chaos", strconv.FormatUint(seed, 10)), func(ctx context.Context) {
		r, err := newChaosRun(ctx, drawSchedule(seed))
		if err != nil {
			report = err.Error()
			return
		}
		hung := r.runWithin(*chaosLimit) //nolint:contextcheck // the run has it
		found := hung
		if hung == "" {
			found = strings.Join(r.verdict(), "\n  ")
			seen.add(r)
		}
		if found != "" {
			report = fmt.Sprintf("seed %d\n  %s\nthe schedule:\n%v\nthe client:\n%v\nthe server:\n%v\nthe network: %v\n"+
				"again: go test ./stream -run 'TestChaos$' -chaos.seed=%d -count=20", seed, found, r.sc, r.journal, r.db,
				r.proxy.Cuts(), seed)
		}
	})
	return report
}

// chaosRun is a schedule at work.
type chaosRun struct {
	sc      *schedule // set at construction, then read only, as the next ten are
	proxy   *testnet.TCP
	db      *database
	journal *ledger
	store   *checkpoint.Memory
	sends   *restrained // the policies for messages, as recvs
	recvs   *restrained
	conn    *grpc.ClientConn
	ctx     context.Context
	cancel  context.CancelFunc
	over    chan struct{}  // closed when no more steps are to be made
	steps   sync.WaitGroup // at work

	restarting sync.Mutex // one restart at a time
	visits     [places]atomic.Int64
	attempts   atomic.Int64

	mu                sync.Mutex // guards the fields below
	finished          bool
	servers           []*grpc.Server // the last one is at work
	counts            [3]int         // of each moment
	passes            map[uint64]int // of each item through the interceptor
	current           *client
	cancelInterceptor context.CancelFunc
}

func newChaosRun(ctx context.Context, sc *schedule) (*chaosRun, error) {
	proxy, err := testnet.NewTCP("") //nolint:contextcheck // it lives until Close
	if err != nil {
		return nil, err
	}
	r := &chaosRun{
		sc: sc, proxy: proxy, journal: newLedger(sc), store: new(checkpoint.Memory), over: make(chan struct{}),
		passes: map[uint64]int{}, cancelInterceptor: func() {},
		sends: sc.sends.build(5 * time.Millisecond), recvs: sc.recvs.build(5 * time.Millisecond),
	}
	r.db = newDatabase(sc, r)
	r.ctx, r.cancel = context.WithCancel(ctx)
	if err := r.serve(); err != nil {
		return nil, err
	}
	r.conn, err = proxy.Client(grpc.WithStreamInterceptor(r.intercept), grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1.6, MaxDelay: 10 * time.Millisecond},
		MinConnectTimeout: time.Second,
	}))
	return r, err
}

// serve starts a server.
func (r *chaosRun) serve() error {
	listener, err := r.proxy.Listen()
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	testpb.RegisterTestServiceServer(server, r.db)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.servers = append(r.servers, server)
	go func() { _ = server.Serve(listener) }() // ends with the server, which finish stops
	return nil
}

// runWithin runs the schedule. Where it takes too long it says what was waited for.
func (r *chaosRun) runWithin(limit time.Duration) (hung string) {
	ended := make(chan struct{})
	go func() { // ends with the last client process, or when the context is cancelled
		defer close(ended)
		r.proxy.ArmInOrder(r.sc.faults...)
		for n := range r.sc.lives {
			if !r.live(n) {
				break
			}
		}
	}()
	if isOver(ended, limit) {
		r.finish()
		return ""
	}
	hung = fmt.Sprintf("bounded: not through after %v\n%v", limit, r.waiting())
	r.cancel()
	if !isOver(ended, limit/2) {
		return hung + "\nIt does not even end with its context; what it has started is left as it is."
	}
	r.finish()
	return hung
}

// isOver waits for the end of something, for so long at the most.
func isOver(ended <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		return false
	}
}

// waiting tells what the stream and its goroutines are at.
func (r *chaosRun) waiting() string {
	var b bytes.Buffer
	if s := r.adopted(); s != nil {
		fmt.Fprintf(&b, "%+v\n", s.Stats())
	}
	var all bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&all, 1)
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		ours := strings.Contains(stack, "streamsafe/stream.") || strings.Contains(stack, "streamsafe/stream_test.(*handler)")
		if !ours || !strings.Contains(stack, fmt.Sprintf(`"chaos":"%d"`, r.sc.seed)) {
			continue
		}
		for call := range strings.SplitSeq(stack, "\n") {
			if words := strings.Fields(call); len(words) > 3 && words[0] == "#" && strings.HasPrefix(words[1], "0x") {
				fmt.Fprintf(&b, "    %s %s\n", path.Base(words[2]), path.Base(words[3]))
			}
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

// finish ends the network and the servers, and waits for all goroutines that the run has started.
func (r *chaosRun) finish() {
	r.mu.Lock()
	r.finished = true
	r.mu.Unlock()
	close(r.over)
	r.cancel()
	_ = r.conn.Close()
	_ = r.proxy.Close()
	r.steps.Wait()
	for _, server := range r.servers { // nobody starts one any more
		server.Stop()
	}
	r.db.readers.Wait()
}

// adopt makes s the stream that steps act on.
func (r *chaosRun) adopt(s *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = s
}

func (r *chaosRun) adopted() *client {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// reached counts a moment, and makes the steps whose time has come.
func (r *chaosRun) reached(m moment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[m]++
	for _, s := range r.sc.steps {
		if s.when == m && s.nth == r.counts[m] && !r.finished {
			r.steps.Go(func() { r.make(s) }) // ends when the step is made, or all is over; finish waits for it
		}
	}
}

// make makes a step.
func (r *chaosRun) make(s step) {
	switch s.do {
	case restartHard, restartGracefully:
		r.restart(s)
	case refuse:
		r.proxy.Refuse(true)
		r.rest(s.rest)
		r.proxy.Refuse(false)
	case cutFIN:
		r.proxy.Cut(testnet.FIN)
	case cutRST:
		r.proxy.Cut(testnet.RST)
	case goDark, stallUp, stallDown:
		r.proxy.Cut(map[action]testnet.Kind{
			goDark: testnet.BlackHole, stallUp: testnet.StallToServer, stallDown: testnet.StallToClient,
		}[s.do])
		r.rest(s.rest)
		r.proxy.Heal()
	case replaceHistory:
		r.db.replace()
	case cancelInterceptor:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.cancelInterceptor()
	case closeSend:
		if c := r.adopted(); c != nil {
			_ = c.CloseSend()
		}
	case closeStream:
		if c := r.adopted(); c != nil {
			r.journal.will(&r.journal.closed)
			_ = c.Close()
		}
	case cancelContext:
		r.journal.will(&r.journal.cancelled)
		r.cancel()
	}
}

// rest waits, unless all is over.
func (r *chaosRun) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.over:
	}
}

// dawdle makes whoever comes to a place wait, from time to time.
func (r *chaosRun) dawdle(p place) {
	if d := r.sc.slow[p]; d.every > 0 && r.visits[p].Add(1)%int64(d.every) == 0 {
		r.rest(d.rest)
	}
}

// restart starts the server again: at once, or after it was given some time to let its handlers end.
func (r *chaosRun) restart(s step) {
	r.restarting.Lock()
	defer r.restarting.Unlock()
	r.mu.Lock()
	old := r.servers[len(r.servers)-1]
	r.mu.Unlock()
	graceful := make(chan struct{})
	if s.do == restartGracefully {
		go func() { // ends with the server, which the line after next stops
			defer close(graceful)
			old.GracefulStop()
		}()
	} else {
		close(graceful)
		old.Stop()
	}
	if err := r.serve(); err != nil {
		r.journal.finds("the test: %v", err)
	}
	r.rest(s.rest)
	old.Stop()
	<-graceful
}
