package testnet

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"math"
	"strings"
)

const (
	clientPreface   = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" // RFC 9113, section 3.4
	frameHeaderSize = 9                                  // RFC 9113, section 4.1
	prefixSize      = 5                                  // compressed flag and length, before each gRPC message

	frameData    = 0x0
	frameHeaders = 0x1
	frameReset   = 0x3

	flagEndStream = 0x1
	flagPadded    = 0x8

	// maxUnfinished bounds the streams that are remembered for a message of which only a part has passed.
	maxUnfinished = 1024
)

// message is a gRPC message on its way.
type message struct {
	number int   // on its connection and in its direction, from 1
	total  int   // the same over all connections; zero until the flow has seen it
	size   int64 // with the prefix; zero until the prefix has passed
	passed int64 // bytes, prefix included
	prefix []byte
	sum    *maphash.Hash // of what was forwarded, if the network records
}

// piece is a run of bytes to be forwarded. It belongs to one message at most.
type piece struct {
	data     []byte // good until the parser goes on
	overhead int    // the first bytes of data that are a frame's header
	message  *message
	offset   int64 // place of the piece in its message
}

// end is the place in the message where the piece ends.
func (p piece) end() int64 { return p.offset + int64(len(p.data)-p.overhead) }

// ends tells whether the piece ends its message.
func (p piece) ends() bool { return p.message != nil && p.end() == p.message.size }

// split cuts the piece after n bytes.
func (p piece) split(n int) (head, tail piece) {
	head, tail = p, p
	head.data, tail.data = p.data[:n], p.data[n:]
	head.overhead = min(n, p.overhead)
	tail.overhead = p.overhead - head.overhead
	tail.offset = head.end()
	return head, tail
}

type parserState int

const (
	inPreface parserState = iota // gathering the client's preface
	inHeader                     // gathering a frame's header
	inPadding                    // gathering the length of a DATA frame's padding
	inData                       // about to start a piece of a DATA frame
	inPrefix                     // gathering a message's prefix, or what the frame has of it
	inRun                        // passing on bytes of message, or of no message
	notHTTP2                     // passing on everything
)

// parser cuts one direction of an HTTP/2 connection into pieces. A DATA frame that holds several messages becomes
// several frames, and its padding a frame of its own. The result does not depend on how the input arrives. It holds back
// at most a frame's header and a message's prefix.
type parser struct {
	state    parserState
	gathered []byte
	out      []byte // the data of the last piece, where it was put together here

	// of the frame at hand
	flags  byte
	stream uint32
	last   bool // nothing of the stream follows the frame
	left   int  // bytes of data that no piece has covered yet
	padded bool // the padding has yet to pass
	pad    int  // bytes of padding

	run        int      // bytes left of the piece at hand
	current    *message // its message, or nil
	count      int      // messages begun
	unfinished map[uint32]*message
}

func newParser(d Direction) *parser {
	p := &parser{unfinished: make(map[uint32]*message)}
	if d == ToClient {
		p.state = inHeader
	}
	return p
}

// pieces feeds the parser and yields what can go on.
func (p *parser) pieces(in []byte) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		for {
			next, used := p.next(in)
			in = in[used:]
			if len(next.data) == 0 || !yield(next) {
				return
			}
		}
	}
}

// next returns a piece and how much of in was used up. An empty piece means that everything was, and more is needed.
func (p *parser) next(in []byte) (piece, int) {
	used := 0
	for {
		out, n := p.step(in[used:])
		used += n
		stuck := n == 0 && used == len(in) && p.state != inData
		if len(out.data) > 0 || stuck {
			return out, used
		}
	}
}

func (p *parser) step(in []byte) (piece, int) {
	switch p.state {
	case inPreface:
		return p.preface(in)
	case inHeader:
		return p.gather(in, frameHeaderSize, p.header)
	case inPadding:
		return p.gather(in, 1, p.padding)
	case inData:
		return p.data(), 0
	case inPrefix:
		return p.gather(in, min(prefixSize-len(p.current.prefix), p.left), p.begin)
	case inRun:
		n := min(p.run, len(in))
		return p.advance(in[:n]), n
	case notHTTP2:
	}
	return piece{data: in}, len(in)
}

// gather collects bytes until there are want, and then goes on with them.
func (p *parser) gather(in []byte, want int, then func() piece) (piece, int) {
	n := min(want-len(p.gathered), len(in))
	p.gathered = append(p.gathered, in[:n]...)
	if len(p.gathered) < want {
		return piece{}, n
	}
	return then(), n
}

// take returns what was gathered, for a piece.
func (p *parser) take() []byte {
	p.out = append(p.out[:0], p.gathered...)
	p.gathered = p.gathered[:0]
	return p.out
}

// preface passes the client's preface on. What begins in another way is not HTTP/2.
func (p *parser) preface(in []byte) (piece, int) {
	n := min(len(clientPreface)-len(p.gathered), len(in))
	p.gathered = append(p.gathered, in[:n]...)
	switch {
	case !strings.HasPrefix(clientPreface, string(p.gathered)):
		p.state = notHTTP2
	case len(p.gathered) == len(clientPreface):
		p.state = inHeader
	default:
		return piece{}, n
	}
	return piece{data: p.take()}, n
}

func (p *parser) header() piece {
	h := p.gathered
	length := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	kind := h[3]
	p.flags = h[4]
	p.stream = binary.BigEndian.Uint32(h[5:]) &^ (1 << 31)
	p.last = kind == frameReset || kind <= frameHeaders && p.flags&flagEndStream != 0
	if kind != frameData || p.stream == 0 || length == 0 {
		out := piece{data: p.take()}
		p.pass(length, nil)
		return out
	}
	p.gathered = p.gathered[:0]
	p.left = length
	p.state = inData
	if p.flags&flagPadded != 0 {
		p.state = inPadding
	}
	return piece{}
}

// padding takes in the length of the padding. One that is too great makes the frame invalid, which is for the peer to
// tell: the frame passes as it is.
func (p *parser) padding() piece {
	pad := int(p.gathered[0])
	p.left--
	if pad > p.left {
		p.out = append(p.frameHeader(1+p.left, p.flags), p.gathered...)
		p.gathered = p.gathered[:0]
		rest := p.left
		p.left = 0
		p.pass(rest, nil)
		return piece{data: p.out}
	}
	p.gathered = p.gathered[:0]
	p.padded, p.pad = true, pad
	p.left -= pad
	p.state = inData
	return piece{}
}

// data starts the next piece of a DATA frame. After the last bytes of data that is the padding.
func (p *parser) data() piece {
	if p.left == 0 {
		p.out = append(p.frameHeader(1+p.pad, p.flags), byte(p.pad))
		p.padded = false
		p.pass(p.pad, nil)
		return piece{data: p.out}
	}
	p.current = p.unfinished[p.stream]
	if p.current == nil {
		p.count++
		p.current = &message{number: p.count}
		p.remember(p.current)
	}
	if p.current.size == 0 {
		p.state = inPrefix
		return piece{}
	}
	return p.begin()
}

// begin puts the header of a piece together, with the bytes of the prefix that were gathered for it.
func (p *parser) begin() piece {
	m, prefix := p.current, p.gathered
	length := len(prefix)
	m.prefix = append(m.prefix, prefix...)
	if len(m.prefix) == prefixSize {
		m.size = prefixSize + int64(binary.BigEndian.Uint32(m.prefix[1:]))
		length = int(min(m.size-m.passed, int64(p.left)))
	}
	flags := p.flags
	if p.padded || length < p.left {
		flags &^= flagPadded | flagEndStream
	}
	p.out = append(p.frameHeader(length, flags), prefix...)
	p.gathered = p.gathered[:0]
	out := piece{data: p.out, overhead: frameHeaderSize, message: m, offset: m.passed}
	m.passed += int64(len(prefix))
	p.left -= length
	p.pass(length-len(prefix), m)
	return out
}

// advance passes on bytes of the run.
func (p *parser) advance(in []byte) piece {
	out := piece{data: in, message: p.current}
	if p.current != nil {
		out.offset = p.current.passed
		p.current.passed += int64(len(in))
	}
	p.pass(p.run-len(in), p.current)
	return out
}

// pass sets how many bytes, of m or of no message, are to be passed on before the next piece begins.
func (p *parser) pass(n int, m *message) {
	p.run, p.current = n, m
	if n > 0 {
		p.state = inRun
		return
	}
	if m != nil && m.passed == m.size {
		delete(p.unfinished, p.stream)
	}
	if p.left > 0 || p.padded {
		p.state = inData
		return
	}
	if p.last {
		delete(p.unfinished, p.stream)
	}
	p.state = inHeader
}

// frameHeader returns the header of a DATA frame of the stream at hand.
func (p *parser) frameHeader(length int, flags byte) []byte {
	h := append(p.out[:0], byte(length>>16), byte(length>>8), byte(length), frameData, flags)
	return binary.BigEndian.AppendUint32(h, p.stream)
}

// remember keeps m until it is whole. Where too many are kept the oldest stream's is dropped: it was reset by its
// receiver, most likely.
func (p *parser) remember(m *message) {
	if len(p.unfinished) >= maxUnfinished {
		oldest := uint32(math.MaxUint32)
		for id := range p.unfinished {
			oldest = min(oldest, id)
		}
		delete(p.unfinished, oldest)
	}
	p.unfinished[p.stream] = m
}
