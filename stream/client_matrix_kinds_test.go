package stream_test

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// The matrix of cuts for the three kinds of methods, holding on and off, with and without policies of the application's, on
// streams that were opened by this package and by a stock client through the interceptor.

// matrixed is how many messages go one way in these matrices.
const matrixed = 12

// underPolicies are the variants of a stream's policies.
func underPolicies() map[string][]stream.ClientOption {
	return map[string][]stream.ClientOption{
		"default policy": nil,
		"retry and breaker": {stream.WithStreamPolicies(
			stream.NewRetryPolicyBuilder().WithMaxRetries(5).WithBackoff(10*time.Millisecond, time.Second).Build(),
			circuitbreaker.NewBuilder[any]().WithFailureThreshold(20).Build(),
		)},
	}
}

// everywhere runs f with a fault at each of so many messages in a direction, in every way.
func everywhere(t *testing.T, name string, messages map[testnet.Direction]int, f func(t *testing.T, fault testnet.Fault)) {
	t.Helper()
	for _, direction := range []testnet.Direction{testnet.ToServer, testnet.ToClient} {
		for _, fault := range cutPlaces() {
			fault.Direction = direction
			t.Run(fmt.Sprintf("%s, %v %v %v", name, fault.Kind, fault.Where, direction), func(t *testing.T) {
				t.Parallel()
				for fault.Message = 1; fault.Message <= messages[direction]; fault.Message++ {
					synctest.Test(t, func(t *testing.T) { f(t, fault) })
				}
			})
		}
	}
}

func TestMatrixOfServerStreaming(t *testing.T) {
	t.Parallel()
	for name, opts := range underPolicies() {
		for _, holding := range []bool{false, true} {
			want, opts := upTo(matrixed), opts
			if holding {
				want = wholeUnits(matrixed)
				opts = append(opts[:len(opts):len(opts)], stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
			}
			messages := map[testnet.Direction]int{testnet.ToServer: 1, testnet.ToClient: len(want)}
			everywhere(t, fmt.Sprintf("%s, holding %v", name, holding), messages, func(t *testing.T, fault testnet.Fault) {
				t.Helper()
				h := &warehouse{total: matrixed, units: holding}
				w := newShop(t, h)
				w.Arm(fault)
				got, err := receiveAll(w.watching(downloads(), opts...))
				require.ErrorIs(t, err, io.EOF, "%v", fault)
				require.Equal(t, want, got, "what the application got: in order, no loss, no duplicate, after %v", fault)
				require.Len(t, w.Cuts(), 1, "the fault happened: %v", fault)
				h.rising(t)
			})
		}
	}
}

func TestMatrixOfClientStreaming(t *testing.T) {
	t.Parallel()
	for name, opts := range underPolicies() {
		for _, asking := range []bool{false, true} {
			messages := map[testnet.Direction]int{testnet.ToServer: matrixed, testnet.ToClient: 1}
			everywhere(t, fmt.Sprintf("%s, Resume asks %v", name, asking), messages, func(t *testing.T, fault testnet.Fault) {
				t.Helper()
				h := &warehouse{}
				var cb uploads
				if asking {
					cb.Resume = h.asks
				}
				w := newShop(t, h)
				w.Arm(fault)
				s := w.uploading(cb, append(opts[:len(opts):len(opts)], withReplay())...)
				stored, err := upload(s, matrixed)
				require.NoError(t, err, "%v", fault)
				require.Equal(t, uint64(matrixed), stored, "the answer after %v", fault)
				require.Len(t, w.Cuts(), 1, "the fault happened: %v", fault)
				h.checkUploads(t, matrixed)
				require.Zero(t, s.Stats().Unacked)
				_, err = s.Recv()
				require.Equal(t, io.EOF, err)
			})
		}
	}
}

// The second attempt is cut as well, at its first message, and after the half-close.
func TestMatrixOfClientStreamingCutTwice(t *testing.T) {
	t.Parallel()
	for _, second := range []testnet.Fault{
		{Kind: testnet.RST, Direction: testnet.ToServer, Message: 1, Where: testnet.Inside, Connection: 2},
		{Kind: testnet.FIN, Direction: testnet.ToServer, Message: matrixed, Where: testnet.After, Connection: 2},
		{Kind: testnet.RST, Direction: testnet.ToClient, Message: 1, Where: testnet.Before, Connection: 2},
		{Kind: testnet.RST, Direction: testnet.ToClient, Message: 1, Where: testnet.After, Connection: 2},
	} {
		messages := map[testnet.Direction]int{testnet.ToServer: matrixed, testnet.ToClient: 1}
		everywhere(t, second.String(), messages, func(t *testing.T, fault testnet.Fault) {
			t.Helper()
			h := &warehouse{}
			w := newShop(t, h)
			w.ArmInOrder(fault, second)
			stored, err := upload(w.uploading(uploads{}, withReplay()), matrixed)
			require.NoError(t, err, "%v", fault)
			require.Equal(t, uint64(matrixed), stored, "the answer after %v", fault)
			require.Len(t, w.Cuts(), 2, "the faults happened: %v", fault)
			h.checkUploads(t, matrixed)
		})
	}
}

// Bidi streams with holding, and with policies. The larger matrix of them is in client_matrix_test.go.
func TestMatrixOfBidi(t *testing.T) {
	t.Parallel()
	for name, opts := range underPolicies() {
		for _, holding := range []bool{false, true} {
			opts := opts
			if holding {
				opts = append(opts[:len(opts):len(opts)], stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
			}
			messages := map[testnet.Direction]int{testnet.ToServer: 1 + matrixed, testnet.ToClient: 1 + 2*matrixed}
			everywhere(t, fmt.Sprintf("%s, holding %v", name, holding), messages, func(t *testing.T, fault testnet.Fault) {
				t.Helper()
				f := &feed{total: matrixed}
				j := keepJournal(f)
				w := newWorld(t, f)
				w.Arm(fault)
				s := w.mustOpen(append(opts[:len(opts):len(opts)], withReplay())...)
				converse(t, s, j, matrixed)
				require.Len(t, w.Cuts(), 1, "the fault happened: %v", fault)
			})
		}
	}
}
