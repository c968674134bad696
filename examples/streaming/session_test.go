package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/examples/streaming/countpb"
)

func line(number uint64) *countpb.Line {
	return &countpb.Line{Number: number, Text: []byte("two words")}
}

func TestSessionGoesOn(t *testing.T) {
	t.Parallel()
	s := newSession()
	for _, number := range []uint64{1, 2, 2, 1, 3, 4} {
		require.NoError(t, s.store(line(number)))
	}
	assert.Equal(t, uint64(4), s.lines.Received())
	answers, err := s.answers.After(1)
	require.NoError(t, err)
	next := uint64(2)
	for number, a := range answers {
		assert.Equal(t, next, number)
		assert.Equal(t, next, a.GetNumber())
		assert.Equal(t, 2*next, a.GetWords(), "a line that comes twice counts once")
		next++
	}
	assert.Equal(t, uint64(5), next)
}

func TestSessionRefuses(t *testing.T) {
	t.Parallel()
	s := newSession()
	assert.Equal(t, codes.InvalidArgument, status.Code(s.store(nil)), "no line")
	assert.Equal(t, codes.FailedPrecondition, status.Code(s.store(line(2))), "a hole")
	for number := uint64(1); number <= maxKept; number++ {
		require.NoError(t, s.store(line(number)))
	}
	assert.Equal(t, codes.Unavailable, status.Code(s.store(line(maxKept+1))), "no room")
	assert.Equal(t, uint64(maxKept), s.lines.Received(), "a line without an answer was not taken in")
	confirms := line(maxKept + 1)
	confirms.Confirmed = 10
	require.NoError(t, s.store(confirms))
	confirms.Confirmed = maxKept + 5
	assert.Equal(t, codes.InvalidArgument, status.Code(s.store(confirms)), "an answer that was never given")
	_, err := s.answers.After(9)
	assert.Equal(t, codes.OutOfRange, status.Code(err), "before what is kept")
	_, err = s.answers.After(maxKept + 2)
	assert.Equal(t, codes.OutOfRange, status.Code(err), "past what was received")
}

func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	var c counter
	_, err := c.session(&countpb.Hello{Session: "gone", Position: 1})
	assert.Equal(t, codes.OutOfRange, status.Code(err))
	for i := range maxSessions {
		_, err := c.session(&countpb.Hello{Session: string(rune('A' + i))})
		require.NoError(t, err)
	}
	_, err = c.session(&countpb.Hello{Session: "A"})
	require.NoError(t, err, "one that is known")
	_, err = c.session(&countpb.Hello{Session: "one too many"})
	assert.Equal(t, codes.ResourceExhausted, status.Code(err))
}
