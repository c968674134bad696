package checkpoint

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// anyRecord draws what a slot may hold.
func anyRecord(t *rapid.T) record {
	text := func(label string, least, most int) string {
		return string(rapid.SliceOfN(rapid.Byte(), least, most).Draw(t, label))
	}
	var r record
	r.key = text("key", 0, 40)
	r.generation = rapid.Uint64Min(1).Draw(t, "generation")
	r.past = rapid.Bool().Draw(t, "past")
	r.Epoch = rapid.Uint64Min(1).Draw(t, "epoch")
	r.UpdatedAt = time.Unix(rapid.Int64().Draw(t, "updated"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	r.deleted = rapid.Bool().Draw(t, "deleted")
	r.Position = Position{Lineage: text("lineage", 0, 40), Seq: rapid.Uint64().Draw(t, "seq"), Token: text("token", 0, 300)}
	return r
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecord(t)
		behind := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "left over")
		got, err := decode(append(encode(r), behind...))
		require.NoError(t, err)
		require.Equal(t, r, got)
	})
}

// A clock may be set to any year.
func TestEveryYearFits(t *testing.T) {
	t.Parallel()
	for _, year := range []int{-5000, 1, 1600, 1677, 1969, 1970, 2026, 2262, 2263, 2300, 9999, 250_000} {
		r := sampleRecord()
		r.UpdatedAt = time.Date(year, 6, 7, 8, 9, 10, 11, time.UTC)
		got, err := decode(encode(r))
		require.NoError(t, err, year)
		require.Equal(t, r, got, year)
	}
}

func TestTheLargestRecordFits(t *testing.T) {
	t.Parallel()
	r := record{key: strings.Repeat("k", MaxKeySize), generation: math.MaxUint64}
	r.Epoch = math.MaxUint64
	r.UpdatedAt = time.Unix(math.MaxInt64, 999_999_999).UTC()
	r.Position = Position{
		Lineage: strings.Repeat("l", MaxLineageSize),
		Seq:     math.MaxUint64,
		Token:   strings.Repeat("t", MaxTokenSize),
	}
	require.Len(t, encode(r), maxRecordSize)
	b := newFile(r)
	require.Len(t, b, maxFileSize)
	p, err := readSlots(b)
	require.NoError(t, err)
	require.Equal(t, r, p.newest)
}

func sampleRecord() record {
	return record{key: "orders", generation: 9, entry: entry{Record: Record{
		Position:  Position{Lineage: "a", Seq: 7, Token: "token"},
		Epoch:     3,
		UpdatedAt: time.Unix(1700000000, 5).UTC(),
	}}}
}

// The format is on people's disks: what was written once is read for ever.
func TestTheFormatDoesNotChange(t *testing.T) {
	t.Parallel()
	const golden = "SSCP" + "\x01" + "L" + "\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x09" + // generation
		"\x00\x00\x00\x00\x00\x00\x00\x03" + // epoch
		"\x00\x00\x00\x00\x65\x53\xf1\x00" + "\x00\x00\x00\x05" + // updated
		"\x00\x00\x00\x00\x00\x00\x00\x07" + // seq
		"\x00\x06orders" + "\x00\x01a" + "\x00\x00\x00\x05token"
	const sum = "\xc9\x6a\x94\x10" // CRC-32C
	require.Equal(t, golden+sum, string(encode(sampleRecord())))
	require.Equal(t, golden+sum+strings.Repeat("\x00", 8192-len(golden+sum)), string(newFile(sampleRecord())))
}

// seal puts the right checksum under a body, so that what is behind the checksum is tested too.
func seal(body []byte) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(nil), body...), checksum(body))
}

func TestDecodeRefusesWhatEncodeDoesNotMake(t *testing.T) {
	t.Parallel()
	sample := encode(sampleRecord())
	body := sample[:len(sample)-checksumSize]
	change := func(at int, to ...byte) []byte {
		b := append([]byte(nil), body...)
		copy(b[at:], to)
		return seal(b)
	}
	const deleted, generation, epoch, nanoseconds, keySize, lineageSize, tokenSize = 6, 7, 15, 31, 43, 51, 54
	zeros := make([]byte, 8)
	for name, b := range map[string][]byte{
		"nothing":             {},
		"zeros":               make([]byte, 4096),
		"another magic":       change(0, 'X'),
		"a later version":     change(4, 2),
		"no such mark":        change(markAt, 0),
		"neither true nor so": change(deleted, 2),
		"generation 0":        change(generation, zeros...),
		"epoch 0":             change(epoch, zeros...),
		"a full second":       change(nanoseconds, 0x3b, 0x9a, 0xca, 0x00),
		"a long key":          change(keySize, 0xff, 0xff),
		"a long lineage":      change(lineageSize, 0xff, 0xff),
		"a long token":        change(tokenSize, 0xff, 0xff, 0xff, 0xff),
		"no checksum":         body,
		"a byte too few":      sample[:len(sample)-1],
		"no room for a token": seal(append(body[:keySize:keySize], "\x00\x04keys\x00\x00"...)),
		"a token over limits": encode(record{key: "k", generation: 1, entry: entry{Record: Record{
			Epoch: 1, Position: Position{Token: strings.Repeat("t", MaxTokenSize+1)},
		}}}),
		"a key over limits": encode(record{key: strings.Repeat("k", MaxKeySize+1), generation: 1, entry: entry{Record: Record{
			Epoch: 1,
		}}}),
	} {
		_, err := decode(b)
		require.Error(t, err, name)
	}
	_, err := decode(seal(body))
	require.NoError(t, err, "the unchanged body")
}

func FuzzDecode(f *testing.F) {
	sample := encode(sampleRecord())
	f.Add(sample)
	f.Add(sample[:len(sample)-checksumSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, seal(b)} {
			r, err := decode(b)
			if err != nil {
				continue
			}
			require.LessOrEqual(t, len(r.key), MaxKeySize)
			require.NoError(t, r.Position.Validate())
			require.NotZero(t, r.Epoch)
			require.NotZero(t, r.generation)
			again := encode(r)
			require.Equal(t, string(b[:len(again)]), string(again), "a record has one encoding")
		}
	})
}
