package testnet

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// frame appends a frame of any kind.
func frame(to []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	to = append(to, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), kind, flags)
	to = binary.BigEndian.AppendUint32(to, stream)
	return append(to, payload...)
}

// body appends a gRPC message of n bytes.
func body(to []byte, n int) []byte {
	to = append(to, 0)
	to = binary.BigEndian.AppendUint32(to, uint32(n))
	for i := range n {
		to = append(to, byte(i))
	}
	return to
}

// seen is what a peer reads, by stream, in a decoder that has nothing in common with the parser.
type seen struct {
	data    map[uint32][]byte // of whole frames
	partial map[uint32][]byte // the same and, in the end, of a frame that is not whole
	flow    map[uint32]int    // bytes that count for flow control, of whole frames
	ended   map[uint32]int    // bytes of data before the end of the stream
	other   []byte            // whole frames that are not DATA
	frames  [][]byte          // data of each DATA frame
	streams []uint32          // of each DATA frame
}

func decode(in []byte) *seen {
	s := &seen{
		data: map[uint32][]byte{}, partial: map[uint32][]byte{}, flow: map[uint32]int{}, ended: map[uint32]int{},
	}
	for len(in) >= 9 {
		end := 9 + int(binary.BigEndian.Uint32(append([]byte{0}, in[:3]...)))
		kind, stream := in[3], binary.BigEndian.Uint32(in[5:9])&0x7fffffff
		switch {
		case kind == 0 && stream != 0:
			s.addData(in[:min(end, len(in))], stream, end)
		case len(in) >= end:
			s.other = append(s.other, in[:end]...)
		}
		if len(in) < end {
			break
		}
		in = in[end:]
	}
	return s
}

// addData takes in a DATA frame, which is whole if it is end bytes long.
func (s *seen) addData(in []byte, stream uint32, end int) {
	flags, data := in[4], in[9:]
	if flags&8 != 0 && end > 9 {
		if len(data) == 0 {
			return
		}
		if pad := int(data[0]); 9+pad < end {
			data = in[10:max(10, min(len(in), end-pad))]
		}
	}
	s.partial[stream] = append(s.partial[stream], data...)
	if len(in) < end {
		return
	}
	s.data[stream] = append(s.data[stream], data...)
	s.flow[stream] += end - 9
	s.frames = append(s.frames, data)
	s.streams = append(s.streams, stream)
	if _, before := s.ended[stream]; flags&1 != 0 && !before {
		s.ended[stream] = len(s.data[stream])
	}
}

// mark is an event of the parser, at a place in its output.
type mark struct {
	at     int
	number int
	ends   bool
}

// feed runs a parser over the chunks, and checks that it holds little.
func feed(t assert.TestingT, d Direction, chunks ...[]byte) ([]byte, []mark) {
	var (
		out   []byte
		marks []mark
		p     = newParser(d)
	)
	for _, chunk := range chunks {
		for piece := range p.pieces(bytes.Clone(chunk)) {
			if m := piece.message; m != nil && piece.offset == 0 && piece.overhead > 0 {
				marks = append(marks, mark{at: len(out), number: m.number})
			}
			out = append(out, piece.data...)
			if piece.ends() {
				marks = append(marks, mark{at: len(out), number: piece.message.number, ends: true})
			}
		}
		assert.LessOrEqual(t, len(p.gathered), len(clientPreface), "bytes held back")
		assert.LessOrEqual(t, len(p.unfinished), maxUnfinished, "messages remembered")
		assert.LessOrEqual(t, cap(p.out), 64, "bytes of its own")
	}
	return out, marks
}

// bytewise splits in into single bytes.
func bytewise(in []byte) [][]byte {
	out := make([][]byte, 0, len(in))
	for i := range in {
		out = append(out, in[i:i+1])
	}
	return out
}

func TestParserSplitsFramesAtMessages(t *testing.T) {
	t.Parallel()
	three := body(body(body(nil, 10), 0), 300)
	all := body(three, 7)
	var in []byte
	in = frame(in, 4, 0, 0, make([]byte, 12))
	in = frame(in, 1, 4, 1, []byte("headers"))
	in = frame(in, 0, 0, 1, three[:22]) // message 1, message 2, two bytes of message 3
	in = frame(in, 0, 0, 1, three[22:100])
	in = frame(in, 0, 1, 1, all[100:])

	out, marks := feed(t, ToClient, in)

	got := decode(out)
	assert.Equal(t, [][]byte{three[:15], three[15:20], three[20:22], three[22:100], three[100:], all[len(three):]}, got.frames,
		"each frame has bytes of one message only")
	assert.Equal(t, map[uint32]int{1: len(all)}, got.ended, "the stream ends with its last frame")
	numbers := make([]int, 0, len(marks))
	for _, m := range marks {
		numbers = append(numbers, m.number)
	}
	assert.Equal(t, []int{1, 1, 2, 2, 3, 3, 4, 4}, numbers)
	again, marksAgain := feed(t, ToClient, bytewise(in)...)
	assert.Equal(t, out, again)
	assert.Equal(t, marks, marksAgain)
}

func TestParserLeavesOrdinaryFramesAlone(t *testing.T) {
	t.Parallel()
	in := []byte(clientPreface)
	in = frame(in, 4, 0, 0, nil)
	in = frame(in, 1, 4, 1, []byte("headers"))
	in = frame(in, 0, 0, 1, body(nil, 1000))
	in = frame(in, 8, 0, 0, make([]byte, 4))
	in = frame(in, 0, 1, 1, nil)
	out, _ := feed(t, ToServer, in)
	assert.Equal(t, in, out)
}

func TestParserGivesPaddingAFrameOfItsOwn(t *testing.T) {
	t.Parallel()
	message := body(nil, 20)
	padded := append(append([]byte{7}, message...), make([]byte, 7)...)
	in := frame(nil, 0, flagPadded|flagEndStream, 1, padded)
	out, marks := feed(t, ToClient, in)
	got := decode(out)
	assert.Equal(t, [][]byte{message, {}}, got.frames)
	assert.Equal(t, len(padded), got.flow[1], "flow control counts padding")
	assert.Equal(t, map[uint32]int{1: len(message)}, got.ended)
	require.Len(t, marks, 2)
	assert.Equal(t, len(out)-9-8, marks[1].at, "the message ends before the padding")
}

func TestParserPassesPaddingThatIsTooLong(t *testing.T) {
	t.Parallel()
	in := frame(nil, 0, flagPadded, 1, []byte{200, 1, 2, 3})
	in = frame(in, 0, flagPadded, 1, nil)
	in = frame(in, 0, flagPadded, 1, []byte{1})
	out, marks := feed(t, ToClient, in)
	assert.Equal(t, in, out)
	assert.Empty(t, marks)
}

func TestParserPassesWhatIsNotHTTP2(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"\x16\x03\x01 a TLS hello", "PRI * HTTP/1", "GET"} {
		out, marks := feed(t, ToServer, bytewise([]byte(in))...)
		assert.Equal(t, in, string(out))
		assert.Empty(t, marks)
	}
}

func TestParserForgetsEndedStreams(t *testing.T) {
	t.Parallel()
	p := newParser(ToClient)
	run := func(in []byte) {
		for range p.pieces(in) {
		}
	}
	part := body(nil, 100)[:50]
	run(frame(nil, 0, 0, 1, part))
	run(frame(nil, 0, 0, 3, part))
	run(frame(nil, 0, 0, 5, part))
	require.Len(t, p.unfinished, 3)
	run(frame(nil, frameReset, 0, 1, make([]byte, 4)))
	assert.Len(t, p.unfinished, 2, "after RST_STREAM")
	run(frame(nil, frameHeaders, flagEndStream, 3, nil))
	assert.Len(t, p.unfinished, 1, "after trailers")
	run(frame(nil, frameData, flagEndStream, 5, part[:1]))
	assert.Empty(t, p.unfinished, "after the last data")
	for i := range uint32(maxUnfinished + 10) {
		run(frame(nil, 0, 0, 2*i+1, part))
	}
	assert.Len(t, p.unfinished, maxUnfinished)
	assert.NotContains(t, p.unfinished, uint32(1), "the oldest are forgotten")
}

// drawTraffic draws frames of several streams that carry messages, with padding and other frames between them.
func drawTraffic(t *rapid.T) []byte {
	var in []byte
	pending := map[uint32][]byte{}
	for range rapid.IntRange(1, 30).Draw(t, "frames") {
		stream := rapid.SampledFrom([]uint32{1, 3, 5}).Draw(t, "stream")
		switch rapid.IntRange(0, 9).Draw(t, "kind of frame") {
		case 0:
			in = frame(in, 8, 0, stream, make([]byte, 4))
			continue
		case 1:
			in = frame(in, 1, 4, stream, []byte("headers"))
			continue
		}
		for range rapid.IntRange(0, 3).Draw(t, "messages") {
			size := rapid.OneOf(rapid.IntRange(0, 3), rapid.IntRange(0, 400)).Draw(t, "size")
			pending[stream] = body(pending[stream], size)
		}
		n := rapid.IntRange(0, len(pending[stream])).Draw(t, "bytes in frame")
		payload := pending[stream][:n]
		pending[stream] = pending[stream][n:]
		flags := byte(0)
		if rapid.Bool().Draw(t, "padded") {
			pad := rapid.IntRange(0, 255).Draw(t, "padding")
			payload = append(append([]byte{byte(pad)}, payload...), make([]byte, pad)...)
			flags = flagPadded
		}
		in = frame(in, 0, flags, stream, payload)
	}
	return in
}

// boundaries finds the messages of whole frames: how many have begun and ended.
func boundaries(s *seen) (begun, ended int) {
	for _, data := range s.data {
		for len(data) > 0 {
			begun++
			if len(data) < 5 {
				break
			}
			size := 5 + int(binary.BigEndian.Uint32(data[1:5]))
			if len(data) < size {
				break
			}
			ended++
			data = data[size:]
		}
	}
	return begun, ended
}

// pure tells whether no frame has bytes of two messages.
func pure(s *seen) bool {
	left := map[uint32]int{} // bytes until the message's end
	have := map[uint32][]byte{}
	for i, data := range s.frames {
		stream := s.streams[i]
		began := len(have[stream]) == 0
		for j, b := range data {
			if len(have[stream]) == 0 && (j > 0 || !began) {
				return false
			}
			have[stream] = append(have[stream], b)
			if len(have[stream]) == 5 {
				left[stream] = int(binary.BigEndian.Uint32(have[stream][1:])) + 5
			}
			if len(have[stream]) >= 5 && len(have[stream]) == left[stream] {
				have[stream] = nil
			}
		}
	}
	return true
}

func TestParserKeepsTraffic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := drawTraffic(t)
		var chunks [][]byte
		for rest := in; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "chunk")
			chunks = append(chunks, rest[:n])
			rest = rest[n:]
		}
		out, marks := feed(t, ToClient, chunks...)

		whole, wholeMarks := feed(t, ToClient, in)
		require.Equal(t, whole, out, "the output does not depend on the chunks")
		require.Equal(t, wholeMarks, marks)

		want, got := decode(in), decode(out)
		require.Equal(t, want.data, got.data, "the data of each stream")
		require.Equal(t, want.flow, got.flow, "what counts for flow control")
		require.Equal(t, want.other, got.other, "the other frames")
		require.True(t, pure(got), "a frame has bytes of one message only")
		begun, ended := boundaries(want)
		for _, m := range marks {
			if m.ends {
				ended--
			} else {
				begun--
			}
		}
		require.Zero(t, begun, "messages begun")
		require.Zero(t, ended, "messages ended")
	})
}

func FuzzParser(f *testing.F) {
	message := body(body(nil, 3), 40)
	f.Add([]byte{}, uint16(0), false)
	f.Add(frame(nil, 0, 0, 1, message), uint16(12), false)
	f.Add(frame(frame(nil, 0, flagPadded, 1, append([]byte{2}, message...)), 3, 0, 1, make([]byte, 4)), uint16(10), false)
	f.Add(frame([]byte(clientPreface), 0, flagEndStream, 1, message[:20]), uint16(3), true)
	f.Fuzz(func(t *testing.T, in []byte, at uint16, toServer bool) {
		d := ToClient
		if toServer {
			d = ToServer
		}
		out, marks := feed(t, d, in)
		n := min(int(at), len(in))
		for _, chunks := range [][][]byte{{in[:n], in[n:]}, bytewise(in)} {
			split, splitMarks := feed(t, d, chunks...)
			require.Equal(t, out, split, "the output does not depend on the chunks")
			require.Equal(t, marks, splitMarks)
		}
		if toServer {
			if !bytes.HasPrefix(in, []byte(clientPreface)) {
				require.True(t, bytes.HasPrefix(in, out))
				return
			}
			in, out = in[len(clientPreface):], out[len(clientPreface):]
		}
		want, got := decode(in), decode(out)
		require.True(t, bytes.HasPrefix(got.other, want.other) && bytes.HasPrefix(want.other, got.other), "other frames")
		for stream, data := range want.data {
			require.True(t, bytes.HasPrefix(got.data[stream], data), "data of whole frames has gone on")
		}
		for stream, data := range got.partial {
			require.True(t, bytes.HasPrefix(want.partial[stream], data), "nothing was made up")
		}
	})
}
