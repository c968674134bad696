package checkpoint

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func open(t *testing.T) *File {
	t.Helper()
	f, err := OpenFile(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// plant puts content in the place of a record's file, as if no call had used it before.
func plant(t *testing.T, f *File, key string, content []byte) (path string) {
	t.Helper()
	name := fileName(key)
	clear(f.lane(name).known)
	path = filepath.Join(f.dir, name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// wantDamaged plants content and sees that every method refuses it by name and leaves it alone.
func wantDamaged(t *testing.T, f *File, key string, content []byte, what string) {
	t.Helper()
	path := plant(t, f, key, content)
	for method, err := range callAll(t, f, key) {
		damaged, ok := errors.AsType[*DamagedError](err)
		require.True(t, ok, "%s of %s: %v", method, what, err)
		require.Equal(t, path, damaged.File)
		require.ErrorContains(t, err, path)
	}
	left, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, left), "a damaged record is never overwritten")
}

// callAll calls every method of a store and returns the errors by its name.
func callAll(t *testing.T, s Store, key string) map[string]error {
	t.Helper()
	_, acquireErr := s.Acquire(t.Context(), key)
	_, loadErr := s.Load(t.Context(), key)
	return map[string]error{
		"Acquire": acquireErr,
		"Load":    loadErr,
		"Commit":  s.Commit(t.Context(), key, 3, Position{Seq: 8}),
		"Delete":  s.Delete(t.Context(), key),
	}
}

// written returns the file of the key "orders" after calls that have returned, the record in it, and where that lies.
// The newest record is in either slot.
func written(t *testing.T, slot int64) (content []byte, newest record, at, size int) {
	t.Helper()
	f := open(t)
	owner, err := f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	for seq := range uint64(4 + slot) {
		require.NoError(t, f.Commit(t.Context(), "orders", owner.Epoch, Position{Lineage: "a", Seq: seq + 1, Token: "token"}))
	}
	content, err = os.ReadFile(filepath.Join(f.dir, fileName("orders")))
	require.NoError(t, err)
	p, err := readSlots(content)
	require.NoError(t, err)
	require.Equal(t, slot, p.slot)
	return content, p.newest, int(p.slot * p.size), len(encode(p.newest))
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	for slot := range int64(2) {
		content, newest, at, size := written(t, slot)
		f := open(t)
		for i := range content {
			for bit := range 8 {
				b := bytes.Clone(content)
				b[i] ^= 1 << bit
				if at <= i && i < at+size {
					wantRefused(t, f, b)
					continue
				}
				// Not in the newest record. So it may be found, but the record is never another one.
				if p, err := readSlots(b); err == nil {
					require.Equal(t, newest, p.newest, "byte %d", i)
				}
			}
		}
	}
}

// wantRefused sees that a file is damaged. Only every now and then it asks the store, which takes longer.
func wantRefused(t *testing.T, f *File, content []byte) {
	t.Helper()
	_, err := readSlots(content)
	require.Error(t, err)
	if content[len(content)/2+8]%8 == 0 {
		wantDamaged(t, f, "orders", content, "a record with a flipped bit")
	}
}

// Invariant 17: what was committed is there or is an error, and never what was there before.
func TestADamagedRecordIsNoSilentRewind(t *testing.T) {
	t.Parallel()
	for slot := range int64(2) {
		content, newest, at, size := written(t, slot)
		half := len(content) / 2
		change := func(f func(b []byte)) []byte {
			b := bytes.Clone(content)
			f(b)
			return b
		}
		newestSlot := func(b []byte) []byte { return b[at : at+half] }
		otherSlot := func(b []byte) []byte { return b[half-at : half-at+half] }
		f := open(t)
		for name, b := range map[string][]byte{
			"zeros in its place":         change(func(b []byte) { clear(newestSlot(b)) }),
			"ones in its place":          change(func(b []byte) { copy(newestSlot(b), bytes.Repeat([]byte{0xff}, half)) }),
			"text in its place":          change(func(b []byte) { copy(newestSlot(b), strings.Repeat("text ", half)) }),
			"zeros from its middle":      change(func(b []byte) { clear(newestSlot(b)[size/2:]) }),
			"zeros up to its middle":     change(func(b []byte) { clear(newestSlot(b)[:size/2]) }),
			"the older one in its place": change(func(b []byte) { copy(newestSlot(b), otherSlot(b)) }),
			"the newest one twice":       change(func(b []byte) { copy(otherSlot(b), newestSlot(b)) }),
			"nothing but zeros":          make([]byte, len(content)),
			"zeros into the other": change(func(b []byte) {
				if at == 0 {
					clear(b[:half+markAt+1])
				} else {
					clear(b[markAt : at+size])
				}
			}),
		} {
			wantDamaged(t, f, "orders", b, name)
		}
		swapped := append(bytes.Clone(content[half:]), content[:half]...)
		p, err := readSlots(swapped)
		require.NoError(t, err)
		require.Equal(t, newest, p.newest, "the generation tells which is the newest, and not the place")
	}
}

func TestEveryTruncationIsFound(t *testing.T) {
	t.Parallel()
	for slot := range int64(2) {
		content, _, _, _ := written(t, slot)
		f := open(t)
		for size := range content {
			_, err := readSlots(content[:size])
			require.Error(t, err, size)
			if size%512 < 2 || size < 100 {
				wantDamaged(t, f, "orders", content[:size], "a truncated file")
			}
		}
		wantDamaged(t, f, "orders", append(bytes.Clone(content), 0), "a file with a byte too many")
		wantDamaged(t, f, "orders", append(bytes.Clone(content), content...), "two files")
	}
}

func TestARecordOfAnotherKeyIsDamage(t *testing.T) {
	t.Parallel()
	wantDamaged(t, open(t), "payments", newFile(sampleRecord()), "a record of another key")
	r := sampleRecord()
	r.key = ""
	wantDamaged(t, open(t), "payments", newFile(r), "a record of no key")
}

// A version that is not known is what matters of a file, whatever else is in it.
func TestARecordOfALaterVersionSaysSo(t *testing.T) {
	t.Parallel()
	f := open(t)
	content, _, at, _ := written(t, 1)
	later := append([]byte(formatMagic), formatVersion+1)
	overwritten := bytes.Clone(content)
	copy(overwritten[at:], later)
	unmarked := bytes.Clone(overwritten) // the later version was stopped before it marked the older record
	unmarked[markAt] = markLive
	for name, b := range map[string][]byte{
		"nothing else":           later,
		"a byte":                 append(bytes.Clone(later), 1),
		"4 KiB":                  append(bytes.Clone(later), make([]byte, 4091)...),
		"an odd size":            append(bytes.Clone(later), make([]byte, 5000)...),
		"as large as records":    append(bytes.Clone(later), make([]byte, maxFileSize-5)...),
		"larger than records":    append(bytes.Clone(later), make([]byte, 1<<20)...),
		"in one of the slots":    overwritten,
		"written only just now":  unmarked,
		"over the newest record": append(bytes.Clone(later), content[5:]...),
	} {
		wantDamaged(t, f, "orders", b, name)
		_, err := f.Load(t.Context(), "orders")
		require.ErrorContains(t, err, "format version 2 is not known", name)
	}
}

func TestARestoredRecordIsUsed(t *testing.T) {
	t.Parallel()
	f := open(t)
	content, _, _, _ := written(t, 1)
	wantDamaged(t, f, "orders", content[1:], "a damaged record")
	plant(t, f, "orders", content)
	r, err := f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(2), r.Epoch)
	require.Equal(t, Position{Lineage: "a", Seq: 5, Token: "token"}, r.Position)
}

// Invariant 17: a store that holds less than this process has written is an error.
func TestAnOlderFileInPlaceOfTheOneWrittenIsDamage(t *testing.T) {
	t.Parallel()
	f := open(t)
	path := filepath.Join(f.dir, fileName("orders"))
	owner, err := f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	older, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, f.Commit(t.Context(), "orders", owner.Epoch, Position{Seq: 1}))
	newer, err := os.ReadFile(path)
	require.NoError(t, err)
	wantAll := func(text, why string) {
		t.Helper()
		for method, err := range callAll(t, f, "orders") {
			damaged, ok := errors.AsType[*DamagedError](err)
			require.True(t, ok, "%s: %s: %v", why, method, err)
			require.Equal(t, path, damaged.File)
			require.ErrorContains(t, err, text, "%s: %s", why, method)
		}
	}

	require.NoError(t, os.WriteFile(path, older, 0o600))
	wantAll("it holds generation 1, and this store has written 2", "an older file")
	require.NoError(t, os.Remove(path))
	wantAll("the file is gone", "no file: a new owner would have epoch 1, as the first one has")
	require.NoFileExists(t, path)
	require.NoError(t, os.WriteFile(path, newer, 0o600))
	r, err := f.Load(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(1), r.Position.Seq, "the file is back")
}

// Counting does not get to the last generation: somebody has written it. What came after it would not be the newest.
func TestNothingFollowsTheLastGeneration(t *testing.T) {
	t.Parallel()
	f := open(t)
	last := sampleRecord()
	last.generation = math.MaxUint64
	path := plant(t, f, "orders", newFile(last))
	err := f.Commit(t.Context(), "orders", last.Epoch, Position{Lineage: "a", Seq: 8})
	damaged, ok := errors.AsType[*DamagedError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, path, damaged.File)
	r, err := f.Load(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(7), r.Position.Seq, "it is as it was")
}

// The size of a file does not decide how much memory is taken: this one would not fit.
func TestAHugeFileIsNotRead(t *testing.T) {
	t.Parallel()
	f := open(t)
	path := plant(t, f, "orders", newFile(sampleRecord()))
	require.NoError(t, os.Truncate(path, 1<<40)) // a hole
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	b, err := f.disk.read(file, 1<<40, maxFileSize)
	require.NoError(t, err)
	require.Len(t, b, maxFileSize+1, "enough to see that it is too long")
	_, err = f.Acquire(t.Context(), "orders")
	damaged, ok := errors.AsType[*DamagedError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, path, damaged.File)
}

func FuzzReadSlots(f *testing.F) {
	first := newFile(sampleRecord())
	second := bytes.Clone(first)
	second[markAt] = markPast
	r := sampleRecord()
	r.generation++
	copy(second[len(second)/2:], encode(r))
	f.Add(first, 0)
	f.Add(second, 4096)
	f.Add([]byte(formatMagic+"\x02"), 1)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		if cut > 0 && cut < len(b) {
			b = append(bytes.Clone(b[cut:]), b[:cut]...)
		}
		p, err := readSlots(b)
		if err != nil {
			return
		}
		require.False(t, p.newest.past)
		require.Equal(t, int64(len(b)/2), p.size)
		again := encode(p.newest)
		require.Equal(t, string(again), string(b[p.slot*p.size:][:len(again)]), "it is where it is said to be")
	})
}
