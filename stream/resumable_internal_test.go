package stream

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

func TestTheTableOfWhatMayBeResumed(t *testing.T) {
	t.Parallel()
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		plain := code == codes.Unavailable
		made := plain || code == codes.Internal || code == codes.Canceled || code == codes.Unknown
		hinted := plain || code == codes.ResourceExhausted || code == codes.Aborted
		if code == codes.OK {
			continue // no error
		}
		require.Equal(t, plain, resumable(status.Error(code, "a handler's words"), rpcstatus.Hint{}), "%s", code)
		require.Equal(t, hinted, resumable(status.Error(code, "x"), rpcstatus.Hint{Given: true}), "%s with a hint", code)
		require.False(t, resumable(status.Error(code, "x"), rpcstatus.Hint{Given: true, Never: true}), "%s with a pushback", code)
		for _, words := range []string{
			"server closed the stream without sending trailers",
			"a HEADERS frame cannot appear in the middle of a stream",
			"transport: the stream is done or WriteHeader was already called",
		} {
			require.Equal(t, made, resumable(status.Error(code, words), rpcstatus.Hint{}), "%s %q", code, words)
			require.Equal(t, plain, resumable(status.Error(code, "backend: "+words), rpcstatus.Hint{}), "%s: a handler quotes %q", code, words)
		}
	}
	for _, code := range []codes.Code{codes.Internal, codes.Unknown, codes.Canceled, codes.Unavailable, codes.ResourceExhausted} {
		require.True(t, resumable(status.Error(code, rstStream+"X"), rpcstatus.Hint{}), "RST_STREAM as %s", code)
		require.Equal(t, code == codes.Internal || code == codes.Unavailable,
			resumable(status.Error(code, "unexpected EOF"), rpcstatus.Hint{}), "a handler's io.ErrUnexpectedEOF is UNKNOWN; here %s", code)
	}
	require.False(t, resumable(status.Error(codes.PermissionDenied, rstStream+"INADEQUATE_SECURITY"), rpcstatus.Hint{}))
	require.False(t, resumable(status.Error(99, "x"), rpcstatus.Hint{Given: true}), "a code that is not known")
	require.False(t, Resumable(errors.New("no status")))
	require.False(t, Resumable(nil))
	require.True(t, Resumable(context.DeadlineExceeded))
}

func resumable(err error, hint rpcstatus.Hint) bool {
	return resumes(originOf(err, fromCallback), err, hint, facts{answered: true})
}

func TestHintsOfALoss(t *testing.T) {
	t.Parallel()
	l := &loss{err: status.Error(codes.Aborted, "x"), trailer: metadata.Pairs(rpcstatus.PushbackKey, "1500")}
	require.True(t, resumable(l.err, l.hint()))
	l.trailer = metadata.Pairs(rpcstatus.PushbackKey, "-1")
	require.False(t, resumable(l.err, l.hint()))
	l.err = status.Error(codes.Unavailable, "x")
	require.False(t, resumable(l.err, l.hint()), "also where the code alone would do")
}
