package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/examples/streaming/countpb"
)

func TestCompareFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	right, err := compute(inputOf(t, 5, "word"))
	require.NoError(t, err)
	wrongHash := strings.Replace(right[2], "a", "b", 1)
	require.NotEqual(t, right[2], wrongHash)
	wrongCount := strings.TrimRight(right[2], "\n") + "1\n"
	for name, test := range map[string]struct {
		journal                     []string
		lost, duplicated, reordered uint64
		wrong                       bool
	}{
		"right":         {journal: right},
		"nothing":       {lost: 5},
		"first missing": {journal: right[1:], lost: 1},
		"last missing":  {journal: right[:4], lost: 1},
		"in the middle": {journal: []string{right[0], right[3], right[4]}, lost: 2},
		"twice":         {journal: []string{right[0], right[1], right[1], right[2], right[3], right[4]}, duplicated: 1},
		"twice, later":  {journal: append(append([]string(nil), right...), right[1]), duplicated: 1},
		"swapped":       {journal: []string{right[0], right[2], right[1], right[3], right[4]}, reordered: 1},
		"wrong hash":    {journal: []string{right[0], right[1], wrongHash, right[3], right[4]}, lost: 1, wrong: true},
		"wrong count":   {journal: []string{right[0], right[1], wrongCount, right[3], right[4]}, lost: 1, wrong: true},
		"too many":      {journal: append(append([]string(nil), right...), "           6 "+right[0][13:]), wrong: true},
		"cut off":       {journal: []string{right[0], right[1], right[2], right[3], right[4][:40]}, lost: 1, wrong: true},
		"no number":     {journal: append(append([]string(nil), right...), "garbage"), wrong: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := compare(right, strings.NewReader(strings.Join(test.journal, "")))
			require.NoError(t, err)
			assert.Equal(t, test.lost, got.lost, "lost")
			assert.Equal(t, test.duplicated, got.duplicated, "duplicated")
			assert.Equal(t, test.reordered, got.reordered, "reordered")
			assert.Equal(t, test.wrong, got.firstWrong != nil, "wrong: %v", got.firstWrong)
			assert.Equal(t, name == "right", got.ok())
		})
	}
}

func TestInputHasChanged(t *testing.T) {
	t.Parallel()
	input := inputOf(t, 3, "word")
	_, err := verify(input, 4, input)
	require.EqualError(t, err, "the input has changed: it had 4 lines, now 3")
}

func TestJournalIsCutBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	write := func(from, to uint64) {
		j, err := openJournal(path, from)
		require.NoError(t, err)
		for number := from + 1; number <= to; number++ {
			require.NoError(t, j.append(&countpb.Answer{Number: number, Hash: make([]byte, 32)}))
		}
		require.NoError(t, j.sync())
		require.NoError(t, j.close())
	}
	write(0, 10)
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteString("half an ent")
	require.NoError(t, err)
	require.NoError(t, file.Close())
	write(7, 9)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	entries := strings.SplitAfter(string(got), "\n")
	require.Len(t, entries, 10) // the last one is empty
	for i, entry := range entries[:9] {
		assert.Equal(t, i+1, numberOf(entry))
		assert.Len(t, entry, entrySize)
	}
	_, err = openJournal(path, 10)
	require.ErrorContains(t, err, "the checkpoint says", "a journal that is behind the checkpoint has lost answers")
}
