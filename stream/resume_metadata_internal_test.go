package stream

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/checkpoint"
)

func TestPositionsSurviveTheMetadata(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := checkpoint.Position{
			Seq:     rapid.Uint64().Draw(t, "seq"),
			Lineage: string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "lineage")),
			Token:   string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "token")),
		}
		got, ok := decodePosition(encodePosition(p))
		require.True(t, ok)
		require.Equal(t, p, got)
	})
}

func FuzzDecodePosition(f *testing.F) {
	f.Add("")
	f.Add(encodePosition(checkpoint.Position{Seq: 1 << 63, Lineage: "lineage", Token: "token"}))
	f.Add("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x00")
	f.Add("\x80\x00\x00")
	f.Add("\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
	f.Fuzz(func(t *testing.T, s string) {
		if p, ok := decodePosition(s); ok {
			require.Equal(t, s, encodePosition(p), "only what encodePosition writes is a position")
			require.LessOrEqual(t, len(s), maxMetadataPosition)
		}
	})
}

// incoming returns the context of a handler whose client has sent these pairs.
func incoming(pairs ...string) context.Context {
	return metadata.NewIncomingContext(context.Background(), metadata.Pairs(pairs...))
}

func FuzzMetadata(f *testing.F) {
	f.Add(strings.Repeat("0f", 16), "1", "\x01\x00", uint8(0))
	f.Add(strings.Repeat("0F", 16), "+1", "", uint8(1))
	f.Add(strings.Repeat("0f", 17), "00", "\x00", uint8(7))
	f.Fuzz(func(t *testing.T, id, attempt, position string, repeated uint8) {
		pairs := []string{streamKey, id, attemptKey, attempt, positionKey, position}
		for i := range 3 {
			if repeated>>i&1 == 1 {
				pairs = append(pairs, pairs[2*i], pairs[2*i+1])
			}
		}
		told, err := metadataOf(incoming(pairs...))
		if err != nil {
			require.ErrorIs(t, err, errMetadata)
			require.Zero(t, told)
			return
		}
		require.Zero(t, repeated&7)
		require.True(t, told.told)
		require.NotZero(t, told.attempt.Epoch)
		require.Equal(t, strings.ToLower(id), told.attempt.Stream.Hex())
	})
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("0f", 16)
	for name, c := range map[string]struct {
		pairs []string
		wrong string
	}{
		"well":                   {[]string{streamKey, id, attemptKey, "7"}, ""},
		"no attempt":             {[]string{streamKey, id}, "it needs one"},
		"no stream":              {[]string{attemptKey, "1"}, "it needs one"},
		"a position alone":       {[]string{positionKey, "\x00\x00"}, "it needs one"},
		"two streams":            {[]string{streamKey, id, streamKey, id, attemptKey, "1"}, "it needs one"},
		"two positions":          {[]string{streamKey, id, attemptKey, "1", positionKey, "\x00\x00", positionKey, "\x00\x00"}, "at most one"},
		"a short stream":         {[]string{streamKey, id[2:], attemptKey, "1"}, "32 hexadecimal digits"},
		"a long stream":          {[]string{streamKey, id + "00", attemptKey, "1"}, "32 hexadecimal digits"},
		"no digits":              {[]string{streamKey, "x" + id[1:], attemptKey, "1"}, "32 hexadecimal digits"},
		"attempt 0":              {[]string{streamKey, id, attemptKey, "0"}, "a number from 1"},
		"attempt -1":             {[]string{streamKey, id, attemptKey, "-1"}, "a number from 1"},
		"an attempt too high":    {[]string{streamKey, id, attemptKey, "18446744073709551616"}, "a number from 1"},
		"a position that is cut": {[]string{streamKey, id, attemptKey, "1", positionKey, "\x01\x05abc"}, "no position"},
		"a position too large":   {[]string{streamKey, id, attemptKey, "1", positionKey, "\x01\x00" + strings.Repeat("a", 4095)}, "no position"},
		"the largest position":   {[]string{streamKey, id, attemptKey, "1", positionKey, "\x01\x00" + strings.Repeat("a", 4094)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := incoming(c.pairs...)
			_, err := metadataOf(ctx)
			_, resumes := ResumeFrom(ctx)
			_, told := AttemptFrom(ctx)
			if c.wrong == "" {
				require.NoError(t, err)
				require.True(t, resumes)
				require.True(t, told)
				return
			}
			require.ErrorContains(t, err, c.wrong)
			require.False(t, resumes)
			require.False(t, told)
		})
	}
}

// Nothing that a client sends is allocated but the id.
func TestStreamIDs(t *testing.T) {
	t.Parallel()
	a, b := newStreamID(), newStreamID()
	require.NotEqual(t, a, b)
	require.Len(t, a.Hex(), 32)
	require.NotContains(t, a.String(), a.Hex()[8:], "a log does not tell the secret")
}
