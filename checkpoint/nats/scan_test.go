package nats_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// tap counts what a connection asks JetStream for, by subject.
type tap struct {
	conn  *nats.Conn // the one that asks
	count map[string]int
	taken chan map[string]int
}

const mark = "$JS.API.MARK" // nobody answers

func newTap(t *testing.T, address string, conn *nats.Conn) *tap {
	t.Helper()
	own, err := nats.Connect("nats://" + address)
	require.NoError(t, err)
	t.Cleanup(own.Close)
	w := &tap{conn: conn, count: map[string]int{}, taken: make(chan map[string]int, 1)}
	_, err = own.Subscribe("$JS.API.>", func(m *nats.Msg) { // one at a time
		if m.Subject == mark {
			w.taken <- w.count
			w.count = map[string]int{}
			return
		}
		w.count[m.Subject]++
	})
	require.NoError(t, err)
	require.NoError(t, own.Flush())
	return w
}

// take returns what was counted since the last call.
func (w *tap) take(t *testing.T) map[string]int {
	t.Helper()
	require.NoError(t, w.conn.Publish(mark, nil))
	select {
	case taken := <-w.taken:
		return taken
	case <-time.After(time.Minute): //nolint:forbidigo // a test
		require.Fail(t, "the mark has not come")
		return nil
	}
}

// manyKeys is how many keys there are. With a race detector in the server a million takes minutes: STREAMSAFE_KEYS=1000000.
func manyKeys(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("STREAMSAFE_KEYS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err, "STREAMSAFE_KEYS")
		return n
	}
	if testing.Short() {
		return 10_000
	}
	return 100_000
}

func name(n int) string { return fmt.Sprintf("%07d", n) }

func encoded(n int) string { return base64.RawURLEncoding.EncodeToString([]byte(name(n))) }

// With many keys the server is asked for the same as with a hundred: no consumer, and nothing that looks at other keys.
func TestNothingIsScanned(t *testing.T) {
	t.Parallel()
	const few, bucket = 100, "scanned"
	many := manyKeys(t)
	address := newNode(t).Addr().String()
	conn, err := nats.Connect("nats://" + address)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	store := newStore(t, js, bucket)
	watch := newTap(t, address, conn)

	// A record is made once, and copied.
	_, err = store.Acquire(t.Context(), "model")
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "KV_"+bucket)
	require.NoError(t, err)
	model, err := stream.GetLastMsgForSubject(t.Context(), "$KV."+bucket+".bW9kZWw")
	require.NoError(t, err)
	filling := dial(t, address)
	filled := 0
	fillTo := func(last int) {
		t.Helper()
		for filled < last {
			for next := min(filled+2000, last); filled < next; filled++ {
				_, err := filling.PublishMsgAsync(&nats.Msg{Subject: "$KV." + bucket + "." + encoded(filled+1), Data: model.Data})
				require.NoError(t, err)
			}
			select {
			case <-filling.PublishAsyncComplete():
			case <-time.After(time.Minute): //nolint:forbidigo // a test
				require.Fail(t, "no acknowledgement", "%d of %d are missing", filling.PublishAsyncPending(), filled)
			}
		}
	}
	work := func(from int) (asked map[string]int, in uint64) {
		t.Helper()
		watch.take(t)
		before := conn.Stats().InBytes
		for n := range few {
			key := name(from + n)
			owner, err := store.Acquire(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, uint64(2), owner.Epoch, "the key was there")
			require.NoError(t, store.Commit(t.Context(), key, owner.Epoch, checkpoint.Position{Seq: 1}))
			r, err := store.Load(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, uint64(1), r.Position.Seq)
			require.NoError(t, store.Delete(t.Context(), key))
		}
		return watch.take(t), conn.Stats().InBytes - before
	}
	fillTo(few)
	before, inBefore := work(1)
	fillTo(many)
	after, inAfter := work(many - few + 1)
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, many+1, int(info.State.NumSubjects)) //nolint:gosec // it is small
	require.Zero(t, info.State.Consumers)

	require.Equal(t, before, after, "the requests, and how many")
	for subject := range after {
		require.True(t, strings.HasPrefix(subject, "$JS.API.STREAM.MSG.GET.") || strings.HasPrefix(subject, "$JS.API.DIRECT.GET."), subject)
	}
	require.InEpsilon(t, inBefore, inAfter, 0.2, "what comes back, so also what the store could keep of it")
}
