package stream

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A timer that is stopped while it fires stays stopped (invariant 10): otherwise it counts ticks of the next attempt, whose
// limits would be cut short.
func TestATimerThatIsStoppedWhileItFiresStaysStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan func(), 1)
		ticks := 0
		stop <- every(time.Second, func(tick time.Duration) time.Duration {
			ticks++
			select {
			case stopped := <-stop:
				stopped()
			default:
			}
			return tick
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 1, ticks, "ticks counted")
	})
}
