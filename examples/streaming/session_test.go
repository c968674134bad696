package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/examples/streaming/countpb"
)

func attach(t *testing.T, s *session, position uint64) (owner int, received uint64) {
	t.Helper()
	owner, received, err := s.attach(&countpb.Hello{Position: position})
	require.NoError(t, err)
	return owner, received
}

func line(number uint64) *countpb.Line {
	return &countpb.Line{Number: number, Text: []byte("two words")}
}

func TestSessionGoesOn(t *testing.T) {
	t.Parallel()
	var s session
	first, received := attach(t, &s, 0)
	assert.Zero(t, received)
	for _, number := range []uint64{1, 2, 2, 1, 3} {
		require.NoError(t, s.store(first, line(number)))
	}
	second, received := attach(t, &s, 1)
	assert.Equal(t, uint64(3), received)
	require.NoError(t, s.store(second, line(4)))
	answers, err := s.answers(second, 2)
	require.NoError(t, err)
	require.Len(t, answers, 3)
	for i, a := range answers {
		assert.Equal(t, uint64(i+2), a.GetNumber())
		assert.Equal(t, 2*a.GetNumber(), a.GetWords(), "a line that comes twice counts once")
	}
}

// What the client is told when it attaches does not change behind its back (invariant 12).
func TestSessionFencesOldAttempts(t *testing.T) {
	t.Parallel()
	var s session
	old, _ := attach(t, &s, 0)
	require.NoError(t, s.store(old, line(1)))
	_, received := attach(t, &s, 0)
	require.ErrorIs(t, s.store(old, line(2)), errSuperseded)
	_, err := s.answers(old, 1)
	require.ErrorIs(t, err, errSuperseded)
	_, again := attach(t, &s, 0)
	assert.Equal(t, received, again)
}

func TestSessionRefuses(t *testing.T) {
	t.Parallel()
	var s session
	owner, _ := attach(t, &s, 0)
	assert.Equal(t, codes.InvalidArgument, status.Code(s.store(owner, nil)), "no line")
	assert.Equal(t, codes.FailedPrecondition, status.Code(s.store(owner, line(2))), "a hole")
	for number := uint64(1); number <= maxKept; number++ {
		require.NoError(t, s.store(owner, line(number)))
	}
	assert.Equal(t, codes.Unavailable, status.Code(s.store(owner, line(maxKept+1))), "no room")
	_, _, err := s.attach(&countpb.Hello{Position: 10, Confirmed: 10})
	require.NoError(t, err)
	assert.Len(t, s.kept, maxKept-10)
	_, _, err = s.attach(&countpb.Hello{Position: 9})
	assert.Equal(t, codes.OutOfRange, status.Code(err), "before what is kept")
	_, _, err = s.attach(&countpb.Hello{Position: maxKept + 1, Confirmed: maxKept + 1})
	assert.Equal(t, codes.OutOfRange, status.Code(err), "past what was received")
	assert.Len(t, s.kept, maxKept-10)
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
