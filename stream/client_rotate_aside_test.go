package stream_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What arrives on the old attempt while the next one is opened is taken in if the old one goes on. If not, it comes again on the
// next one. Either way the application gets it once.
func TestWhatArrivesWhileTheNextAttemptIsOpened(t *testing.T) {
	t.Parallel()
	for _, opens := range []bool{false, true} {
		t.Run(map[bool]string{false: "the old one goes on", true: "the next one takes over"}[opens], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPuppet()
				w := newWorld(t, &feed{handler: p.handle}, opensDo(func(n int) error {
					if n != 2 {
						return nil
					}
					time.Sleep(time.Second) // two messages arrive meanwhile
					if opens {
						return nil
					}
					return errGone
				}))
				s := w.mustDial(announced((&feed{}).callbacks()))
				var got numbers
				ended := async(func() error {
					for {
						m, err := s.Recv()
						if err != nil {
							return err
						}
						if fr := frameOf(m); fr.kind == data {
							got.add(fr.seq)
						}
					}
				})
				p.tell(bye())
				rest(500 * time.Millisecond)
				p.tell(numbered(1, 2)...)
				require.Empty(t, got.all(), "the position stands still")
				rest(700 * time.Millisecond)
				want := map[bool]uint64{false: 0, true: 1}[opens]
				require.Equal(t, want, s.Stats().Rotations, "rotations")
				if opens {
					require.Empty(t, got.all(), "what was set aside is dropped")
					p.tell(numbered(1, 2)...)
				}
				require.Equal(t, []uint64{1, 2}, got.all(), "in order, no loss, no duplicate")
				require.Zero(t, s.Stats().Outages)
				goesOn(t, ended)
			})
		})
	}
}
