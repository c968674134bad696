package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/examples/streaming/countpb"
	"github.com/streamsafe/streamsafe/internal/testnet"
)

// faultLasts is how long stalls last: longer than the client waits for an answer. A black hole lasts until somebody closes the
// connection.
const faultLasts = 300 * time.Millisecond

// maxCuts bounds the time that a job takes.
const maxCuts = 1000

// plan draws faults for a stream with so many lines: of all kinds, in both directions, spread over the whole. They are
// to be armed in order. Those that find too few messages left are what [saboteur] is for.
func plan(seed uint64, cuts int, lines uint64) []testnet.Fault {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // repeatable on purpose
	kinds := []testnet.Kind{
		testnet.RST, testnet.FIN, testnet.Truncate, testnet.BlackHole, testnet.StallToClient, testnet.StallToServer,
	}
	faults := make([]testnet.Fault, cuts)
	for i := range faults {
		gap := int(lines) / (cuts + 1) // messages from one fault to the next, about
		faults[i] = testnet.Fault{
			Kind:      kinds[i%len(kinds)],
			Direction: testnet.Direction(random.IntN(2)),
			Message:   1 + gap/2 + random.IntN(gap+1),
			Where:     testnet.Where(random.IntN(3)),
			Total:     true,
		}
		switch faults[i].Kind {
		case testnet.StallToClient, testnet.StallToServer:
			faults[i].For = faultLasts
		case testnet.FIN, testnet.RST, testnet.Truncate, testnet.BlackHole, testnet.BlackHoleToServer, testnet.BlackHoleToClient, testnet.Refusal:
		}
	}
	random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	return faults
}

// saboteur stands before the answers that the server sends. It sees to it that the last one does not get through before
// all cuts have happened, and, where the client is to be killed, that none from the second half does before that. Where the
// server is to be replaced, the last one waits for that.
type saboteur struct {
	network *testnet.Network // set at construction, then read only, as the next three are
	cuts    int
	lines   uint64
	restart bool
	deploy  bool

	mu      sync.Mutex    // lets one handler cut at a time, so that none cuts once too often
	once    sync.Once     // closes halfway
	halfway chan struct{} // closed by the saboteur when the client is to be killed, or the server to be replaced
	killed  chan struct{} // closed by the supervisor when that is done
}

func newSaboteur(network *testnet.Network, cuts int, lines uint64) *saboteur {
	return &saboteur{
		network: network, cuts: cuts, lines: lines, halfway: make(chan struct{}), killed: make(chan struct{}),
	}
}

// intercept is a grpc.StreamServerInterceptor.
func (s *saboteur) intercept(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, &sabotaged{ServerStream: ss, by: s})
}

type sabotaged struct {
	grpc.ServerStream
	by *saboteur
}

// SendMsg implements [grpc.ServerStream].
func (s *sabotaged) SendMsg(m any) error {
	if r, ok := m.(*countpb.Response); ok && r.GetAnswer() != nil {
		if err := s.by.allow(s.Context(), r.GetAnswer().GetNumber()); err != nil {
			return err
		}
	}
	return s.ServerStream.SendMsg(m)
}

// allow returns nil when an answer may be sent.
func (s *saboteur) allow(ctx context.Context, number uint64) error {
	if number > s.lines/2 {
		s.once.Do(func() { close(s.halfway) })
	}
	if s.restart && number > s.lines/2 || s.deploy && number == s.lines {
		select {
		case <-s.killed:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	if number == s.lines && s.cutOnce() {
		return status.Error(codes.Unavailable, "cut before the last answer")
	}
	return nil
}

// cutOnce makes one of the cuts that are left. It reports false where none is.
func (s *saboteur) cutOnce() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	made := len(s.network.Cuts())
	if made >= s.cuts {
		return false
	}
	s.network.Disarm()
	kind := []testnet.Kind{testnet.FIN, testnet.RST}[made%2]
	s.network.Cut(kind, s.network.Stats().Connections) // the newest
	return true
}

// describe says how many cuts there were, and of which kinds.
func describe(cuts []testnet.Cut) string {
	total := count(uint64(len(cuts)), "cut")
	if len(cuts) == 0 {
		return total
	}
	counts := make(map[testnet.Kind]int)
	for _, c := range cuts {
		counts[c.Kind]++
	}
	all := make([]string, 0, len(counts))
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%d %v", counts[kind], kind))
	}
	return fmt.Sprintf("%s (%s)", total, strings.Join(all, ", "))
}
