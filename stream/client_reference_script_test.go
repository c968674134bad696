package stream_test

import (
	"encoding/binary"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// The scripts that FuzzAgainstReference plays.

// utterance is one message of a script.
type utterance struct {
	kind    kind
	seq     uint64
	lineage string
	raw     []byte // in place of all of these
}

func (m utterance) position() checkpoint.Position {
	return checkpoint.Position{Lineage: m.lineage, Seq: m.seq}
}

func (m utterance) response() *response {
	body := m.raw
	if body == nil {
		body = binary.BigEndian.AppendUint64([]byte{byte(m.kind)}, m.seq)
		body = append(body, m.lineage...)
	}
	return &response{Payload: &testpb.Payload{Body: body}}
}

// heard is what the callbacks make of a message.
func heard(m *response) utterance {
	f, body := frameOf(m), m.GetPayload().GetBody()
	if f.kind == empty {
		return utterance{kind: empty}
	}
	return utterance{kind: f.kind, seq: f.seq, lineage: string(body[9:])}
}

// act is what the server does on one attempt.
type act struct {
	ack      uint64 // of the answer to the hello
	anchor   checkpoint.Position
	anchored bool
	says     []utterance
	end      codes.Code
}

// The operations of a script.
const (
	opNext = iota
	opSkip
	opAbsolute
	opOther
	opUnordered
	opBookmark
	opFragment
	opAck
	opAckAbsolute
	opRaw
	opBreak
	opAnchor
	opEnd
	ops
)

// scriptOf reads what the fuzzer has written. Numbers are near the last one most of the time.
func scriptOf(in []byte) []act {
	next := func(n int) []byte {
		n = min(n, len(in))
		out := in[:n]
		in = in[n:]
		return out
	}
	number := func() uint64 {
		var b [8]byte
		copy(b[:], next(8))
		return binary.BigEndian.Uint64(b[:])
	}
	small := func() uint64 {
		if b := next(1); len(b) > 0 {
			return uint64(b[0] % 8)
		}
		return 0
	}
	acts := []act{{end: codes.OK}}
	seq, lineage := uint64(0), "a"
	for total := 0; len(in) > 0 && total < 100 && len(acts) < 10; total++ {
		a := &acts[len(acts)-1]
		switch next(1)[0] % ops {
		case opNext:
			seq++
			a.says = append(a.says, utterance{kind: data, seq: seq, lineage: lineage})
		case opSkip:
			seq += small() - 3
			a.says = append(a.says, utterance{kind: data, seq: seq, lineage: lineage})
		case opAbsolute:
			seq = number()
			a.says = append(a.says, utterance{kind: data, seq: seq, lineage: lineage})
		case opOther:
			lineage = string(next(int(small())))
		case opUnordered:
			a.says = append(a.says, utterance{kind: data, lineage: lineage})
		case opBookmark:
			seq += small() - 2
			a.says = append(a.says, utterance{kind: bookmark, seq: seq, lineage: lineage})
		case opFragment:
			a.says = append(a.says, utterance{kind: fragment})
		case opAck:
			a.says = append(a.says, utterance{kind: ack, seq: small()})
		case opAckAbsolute:
			a.says = append(a.says, utterance{kind: ack, seq: number()})
		case opRaw:
			a.says = append(a.says, utterance{kind: empty, raw: append([]byte{byte(empty)}, next(int(small()))...)})
		case opBreak:
			a.end = codes.Unavailable
			acts = append(acts, act{ack: small()})
			if seq > 0 && small() == 0 {
				seq-- // it comes again
			}
		case opAnchor:
			a.anchor, a.anchored = checkpoint.Position{Lineage: lineage, Seq: seq + small() - 3}, true
		case opEnd:
			a.end = codes.Code(small() + small())
			acts = append(acts, act{ack: small()})
		}
	}
	return acts
}
