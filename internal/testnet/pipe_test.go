//nolint:thelper // the functions that inBubble runs are tests, not helpers
package testnet

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inBubble runs a test on a connection in memory.
func inBubble(t *testing.T, test func(t *testing.T, a, b *memoryConn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a, b := memoryPair("a", "b")
		test(t, a, b)
	})
}

func TestConnBuffersAreBounded(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, a, b *memoryConn) {
		written := make(chan int, 1)
		go func() {
			n, err := a.Write(make([]byte, socketSize+1))
			assert.NoError(t, err)
			written <- n
		}()
		synctest.Wait()
		assert.Empty(t, written, "Write waits for room")
		assert.Equal(t, socketSize, a.out.size)
		_, err := io.ReadFull(b, make([]byte, socketSize+1))
		require.NoError(t, err)
		assert.Equal(t, socketSize+1, <-written)
	})
}

func TestConnClose(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, a, b *memoryConn) {
		go func() {
			synctest.Wait()
			_, err := a.Write([]byte("last words"))
			assert.NoError(t, err)
			assert.NoError(t, a.Close())
		}()
		_, err := a.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed, "Close unblocks Read")
		_, err = a.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
		got, err := io.ReadAll(b)
		require.NoError(t, err, "the other end reads what was written and then io.EOF")
		assert.Equal(t, "last words", string(got))
		_, err = b.Write([]byte("x"))
		require.ErrorIs(t, err, syscall.EPIPE)
		require.NoError(t, a.Close(), "twice")
	})
}

func TestConnCloseUnblocksWrite(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, a, _ *memoryConn) {
		go func() {
			synctest.Wait()
			assert.NoError(t, a.Close())
		}()
		_, err := a.Write(make([]byte, socketSize+1))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestConnCloseWriteLeavesTheOtherDirection(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, a, b *memoryConn) {
		require.NoError(t, a.CloseWrite())
		_, err := b.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		_, err = b.Write([]byte("x"))
		require.NoError(t, err)
		_, err = a.Read(make([]byte, 1))
		require.NoError(t, err)
	})
}

func TestConnReset(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, a, b *memoryConn) {
		_, err := a.Write([]byte("arrived"))
		require.NoError(t, err)
		a.Reset()
		buf := make([]byte, 20)
		n, err := b.Read(buf)
		require.NoError(t, err, "what has arrived can be read")
		assert.Equal(t, "arrived", string(buf[:n]))
		_, err = b.Read(buf)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		_, err = b.Write(buf)
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
}

func TestConnDeadlines(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, a, b *memoryConn) {
		start := time.Now()
		require.NoError(t, a.SetDeadline(start.Add(time.Second)))
		_, err := a.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var failure net.Error
		require.ErrorAs(t, err, &failure)
		assert.True(t, failure.Timeout())
		assert.Equal(t, time.Second, time.Since(start))
		_, err = a.Write(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "at once")

		require.NoError(t, a.SetWriteDeadline(time.Now().Add(time.Second)))
		n, err := a.Write(make([]byte, socketSize+5))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, socketSize, n, "the bytes that had room")
		assert.Equal(t, 2*time.Second, time.Since(start))

		require.NoError(t, b.SetReadDeadline(time.Now().Add(time.Hour)))
		done := make(chan error, 1)
		go func() {
			_, err := a.Read(make([]byte, 1))
			done <- err
		}()
		require.NoError(t, a.SetDeadline(time.Time{}))
		synctest.Wait()
		assert.Empty(t, done, "no deadline any more")
		require.NoError(t, a.SetReadDeadline(time.Now()))
		require.ErrorIs(t, <-done, os.ErrDeadlineExceeded, "a new deadline reaches a Read that waits")
	})
}

func TestPipeDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := newPipe(100)
		for i := range 3 {
			_, err := p.write([]byte{byte(i)}, time.Second)
			require.NoError(t, err)
			time.Sleep(100 * time.Millisecond)
		}
		p.finish(io.EOF, time.Second)
		for i := range 3 {
			buf := make([]byte, 10)
			n, err := p.read(buf)
			require.NoError(t, err)
			assert.Equal(t, []byte{byte(i)}, buf[:n], "what is not due yet waits")
			assert.Equal(t, time.Second+time.Duration(i)*100*time.Millisecond, time.Since(start))
		}
		_, err := p.read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		assert.Equal(t, 1300*time.Millisecond, time.Since(start), "the end travels as long as the bytes")
	})
}
