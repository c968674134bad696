package outbox

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// settled returns what a receipt says, FatePending if it is pending.
func settled(r *Receipt) Fate {
	select {
	case <-r.Done():
		return r.Fate()
	default:
		return FatePending
	}
}

// A receipt is settled once: what comes later does not change what was said.
func TestAReceiptIsSettledOnce(t *testing.T) {
	t.Parallel()
	s := newReplay()
	var receipts []*Receipt
	for range 5 {
		s.send()
		receipts = append(receipts, s.Track())
		s.encode()
		s.settle(OK)
	}
	fates := func() (fates []Fate) {
		for _, r := range receipts {
			fates = append(fates, settled(r))
		}
		return fates
	}
	s.Acknowledge(1)
	require.Equal(t, []Fate{FateAcked, FatePending, FatePending, FatePending, FatePending}, fates(), "1 is acknowledged")
	s.Discard([]uint64{1, 3})
	require.Equal(t, []Fate{FateAcked, FatePending, FateDropped, FatePending, FatePending}, fates(), "a replay has dropped 1, too late, and 3")
	s.Acknowledge(4)
	require.Equal(t, []Fate{FateAcked, FateAcked, FateDropped, FateAcked, FatePending}, fates(), "4 is acknowledged")
	s.End(errEnd)
	want := []Fate{FateAcked, FateAcked, FateDropped, FateAcked, FateEnded}
	require.Equal(t, want, fates(), "the stream has ended")
	s.Acknowledge(5)
	s.AcknowledgeAll()
	require.Equal(t, want, fates(), "an acknowledgement after the end")
}

// The stream ends after a message has its turn and before it has its receipt: 1. Begin. 2. End. 3. Track. Nobody would settle it.
func TestAReceiptOfAStreamThatHasEnded(t *testing.T) {
	t.Parallel()
	s := newReplay()
	s.send()
	s.End(errEnd)
	require.Equal(t, FateEnded, settled(s.Track()))
	s.settle(OK)
}

// A message that is taken back gives its number to the next one, and the receipt of that is another one (invariant 7): also if the
// other end has acknowledged what it cannot have.
func TestAReceiptOfWhatWasTakenBack(t *testing.T) {
	t.Parallel()
	for _, acked := range []bool{false, true} {
		s := newReplay()
		s.send()
		first := s.Track()
		if acked {
			s.Acknowledge(1)
		}
		s.settle(Rejected)
		s.send()
		second := s.Track()
		s.encode()
		s.settle(OK)
		require.Equal(t, FatePending, settled(second), "the next message, acknowledged before: %v", acked)
		require.Equal(t, acked, settled(first) == FateAcked, "the first, which nobody has")
		s.Acknowledge(1)
		require.Equal(t, FateAcked, settled(second), "the next message is acknowledged")
	}
}
