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

// anyEntry draws what a store may keep.
func anyEntry(t *rapid.T) (string, entry) {
	text := func(label string, least, most int) string {
		return string(rapid.SliceOfN(rapid.Byte(), least, most).Draw(t, label))
	}
	var e entry
	e.Epoch = rapid.Uint64Min(1).Draw(t, "epoch")
	e.UpdatedAt = time.Unix(0, rapid.Int64().Draw(t, "updated")).UTC()
	e.deleted = rapid.Bool().Draw(t, "deleted")
	e.Position = Position{Lineage: text("lineage", 0, 40), Seq: rapid.Uint64().Draw(t, "seq"), Token: text("token", 0, 300)}
	return text("key", 1, 40), e
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key, e := anyEntry(t)
		gotKey, got, err := decode(encode(key, e))
		require.NoError(t, err)
		require.Equal(t, key, gotKey)
		require.Equal(t, e, got)
	})
}

func TestTheLargestRecordFits(t *testing.T) {
	t.Parallel()
	var e entry
	e.Epoch = math.MaxUint64
	e.UpdatedAt = time.Unix(0, math.MaxInt64).UTC()
	e.Position = Position{
		Lineage: strings.Repeat("l", MaxLineageSize),
		Seq:     math.MaxUint64,
		Token:   strings.Repeat("t", MaxTokenSize),
	}
	b := encode(strings.Repeat("k", MaxKeySize), e)
	require.Len(t, b, maxRecordSize)
	_, got, err := decode(b)
	require.NoError(t, err)
	require.Equal(t, e, got)
}

func sample() []byte {
	return encode("orders", entry{Record: Record{
		Position:  Position{Lineage: "a", Seq: 7, Token: "token"},
		Epoch:     3,
		UpdatedAt: time.Unix(1700000000, 5).UTC(),
	}})
}

// The format is on people's disks: what was written once is read for ever.
func TestTheFormatDoesNotChange(t *testing.T) {
	t.Parallel()
	const golden = "SSCP" + "\x01" + "\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x03" + // epoch
		"\x17\x97\x9c\xfe\x36\x2a\x00\x05" + // updated
		"\x00\x00\x00\x00\x00\x00\x00\x07" + // seq
		"\x00\x06orders" + "\x00\x01a" + "\x00\x00\x00\x05token" +
		"\x70\xc4\x1a\x0b" // CRC-32C
	require.Equal(t, golden, string(sample()))
}

// seal puts the right checksum under a body, so that what is behind the checksum is tested too.
func seal(body []byte) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(nil), body...), checksum(body))
}

func TestDecodeRefusesWhatEncodeDoesNotMake(t *testing.T) {
	t.Parallel()
	body := sample()[:len(sample())-checksumSize]
	change := func(at int, to ...byte) []byte {
		b := append([]byte(nil), body...)
		copy(b[at:], to)
		return seal(b)
	}
	const flag, epoch, keySize, lineageSize, tokenSize = 5, 6, 30, 38, 41
	for name, b := range map[string][]byte{
		"nothing":             {},
		"another magic":       change(0, 'X'),
		"a later version":     change(4, 2),
		"neither true nor so": change(flag, 2),
		"epoch 0":             change(epoch, 0, 0, 0, 0, 0, 0, 0, 0),
		"a long key":          change(keySize, 0xff, 0xff),
		"an empty key":        seal(append(append(body[:keySize:keySize], 0, 0), body[lineageSize:]...)),
		"a long lineage":      change(lineageSize, 0xff, 0xff),
		"a long token":        change(tokenSize, 0xff, 0xff, 0xff, 0xff),
		"a byte too many":     seal(append(body[:len(body):len(body)], 0)),
		"a byte too few":      seal(body[:len(body)-1]),
		"no room for a token": seal(append(body[:keySize:keySize], "\x00\x04keys\x00\x00"...)),
		"megabytes":           make([]byte, 8<<20),
	} {
		_, _, err := decode(b)
		require.Error(t, err, name)
	}
	_, _, err := decode(seal(body))
	require.NoError(t, err, "the unchanged body")
}

func FuzzDecode(f *testing.F) {
	f.Add(sample())
	f.Add(sample()[:len(sample())-checksumSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, seal(b)} {
			key, e, err := decode(b)
			if err != nil {
				continue
			}
			require.NoError(t, ValidateKey(key))
			require.NoError(t, e.Position.Validate())
			require.NotZero(t, e.Epoch)
			require.Equal(t, b, encode(key, e), "a record has one encoding")
		}
	})
}
