package stream_test

import (
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 6: a bookmark that repeats the last number says nothing of a message that came after that number: it does not
// take the stream past it. Where nothing came after the number, the bookmark's token is the newer one.
func TestABookmarkThatRepeatsTheLastNumber(t *testing.T) {
	t.Parallel()
	token := func(s string) checkpoint.Position { return checkpoint.Position{Seq: 1, Token: s} }
	tests := map[string]struct {
		frames []frame
		from   checkpoint.Position
		again  uint64 // messages that may come again
	}{
		"after a message that it does not cover": {
			frames: []frame{{kind: data, seq: 1}, {kind: fragment, seq: 11}, {kind: bookmark, seq: 1}},
			from:   token("data"), again: 1,
		},
		"after nothing": {
			frames: []frame{{kind: data, seq: 1}, {kind: bookmark, seq: 1}},
			from:   token("bookmark"),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(errGone, test.frames...), sends(nil))
				var d diary
				var seen froms
				cb := positions()
				cb.Resume = seen.resume(nil)
				cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
					f := frameOf(m)
					tokens := map[kind]string{data: "data", bookmark: "bookmark"}
					return checkpoint.Position{Seq: f.seq, Token: tokens[f.kind]}, f.kind != fragment
				}
				got, err := receiveAll(w.mustDial(cb, stream.WithObserver(&d)))
				require.Equal(t, io.EOF, err)
				require.Len(t, got, int(1+test.again)) //nolint:gosec // small
				require.Equal(t, froms{{}, test.from}, seen, "where the attempts start")
				synctest.Wait()
				rewound := uint64(0)
				for _, e := range d.of("rewound") {
					rewound += e.count
				}
				require.Equal(t, test.again, rewound, "messages that may come again")
			})
		})
	}
}
