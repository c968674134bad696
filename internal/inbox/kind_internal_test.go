package inbox

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// row is a line of the table in the doc comment of Kind: what it asks for, and what it says.
type row struct {
	line string
	when []string // the columns position, control, since, room; "–" fits anything
	kind Kind
	is   string
}

// fits reports whether r is about a message of which these are the facts.
func (r row) fits(facts [4]string) bool {
	for i, cell := range r.when {
		if cell != "–" && !slices.Contains(strings.Split(cell, " or "), facts[i]) {
			return false
		}
	}
	return true
}

// kindNames has the names of the kinds, which the table uses.
var kindNames = map[string]Kind{
	"OtherLineage": OtherLineage, "Exhausted": Exhausted, "Repeated": Repeated, "Gap": Gap, "Bookmark": Bookmark,
	"Silent": Silent, "Next": Next, "Held": Held, "Overflow": Overflow,
}

// kindTable reads the table from the doc comment of Kind.
func kindTable() ([]row, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "kind.go", nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, decl := range file.Decls {
		types, ok := decl.(*ast.GenDecl)
		if !ok || types.Tok != token.TYPE || types.Specs[0].(*ast.TypeSpec).Name.Name != "Kind" {
			continue
		}
		for line := range strings.Lines(types.Doc.Text()) {
			cells, ok := tableCells(line)
			if !ok || cells[0] == "position" {
				continue
			}
			kind, known := kindNames[cells[4]]
			if len(cells) != 6 || !known {
				return nil, fmt.Errorf("a line of the table that says nothing: %q", line)
			}
			rows = append(rows, row{line: strings.TrimSpace(line), when: cells[:4], kind: kind, is: cells[5]})
		}
	}
	return rows, nil
}

// tableCells returns the cells of a line of a table: they are indented, and more than one blank is between them.
func tableCells(line string) ([]string, bool) {
	if !strings.HasPrefix(line, "\t") {
		return nil, false
	}
	var cells []string
	for cell := range strings.SplitSeq(strings.TrimSpace(line), "  ") {
		if cell = strings.TrimSpace(cell); cell != "" {
			cells = append(cells, cell)
		}
	}
	return cells, len(cells) > 4
}

// kindIn returns what the table says of a message of which these are the facts.
func kindIn(rows []row, facts [4]string) (row, bool) {
	i := slices.IndexFunc(rows, func(r row) bool { return r.fits(facts) })
	if i < 0 {
		return row{}, false
	}
	return rows[i], true
}

// Every combination of what the table asks for is in it, each line is the first one that fits some combination, and the
// code decides what the table says (invariants 5, 6 and 17).
func TestTheTableOfKinds(t *testing.T) {
	t.Parallel()
	rows, err := kindTable()
	require.NoError(t, err)
	require.Len(t, rows, 13, "lines of the table in the doc comment of Kind")
	hit := map[string]bool{}
	for _, position := range []string{"elsewhere", "the highest", "low", "last", "skips", "next", "none"} {
		for _, control := range []string{"no", "yes"} {
			for _, since := range []string{"nothing", "accepted", "held"} {
				for _, room := range []string{"unneeded", "yes", "no"} {
					if since == "held" && room == "unneeded" {
						continue // nothing is ever held then
					}
					facts := [4]string{position, control, since, room}
					want, ok := kindIn(rows, facts)
					require.True(t, ok, "the table has no line for %q", facts)
					hit[want.line] = true
					b, in := situation(facts)
					got := b.kindOf(&in)
					require.Equal(t, want.kind, got, "the kind of %q, of which the table says: %s", facts, want.line)
					r := Report{Kind: got, Fails: true}
					require.Equal(t, strings.Contains(want.is, "breaks") || got == Overflow, r.Breaks(),
						"whether the attempt breaks; the table says: %s", want.line)
				}
			}
		}
	}
	for _, r := range rows {
		require.True(t, hit[r.line], "no combination of facts is decided by this line: %s", r.line)
	}
}

// situation returns an inbox at number 5 of lineage "l" and a message, of which these are the facts.
func situation(facts [4]string) (*Inbox[int, int], Arrival[int]) {
	const size = 200
	position, control, since, room := facts[0], facts[1], facts[2], facts[3]
	b := New[int, int](Config{Hold: room != "unneeded", HoldLimit: 2 * size, NoGaps: position == "skips"})
	b.StartsFrom(checkpoint.Position{Lineage: "l", Seq: 5})
	b.Attach(1)
	switch since {
	case "accepted":
		b.lock()
		b.accept()
		b.unlock()
	case "held":
		b.Arrived(1, &Arrival[int]{Message: new(int), Size: size}, true)
	}
	in := Arrival[int]{Message: new(int), Control: control == "yes", Size: size, HasPosition: position != "none"}
	if room == "no" {
		in.Size = 2*size + 1
	}
	in.Position = map[string]checkpoint.Position{
		"elsewhere":   {Lineage: "m", Seq: math.MaxUint64},
		"the highest": {Lineage: "l", Seq: math.MaxUint64},
		"low":         {Lineage: "l", Seq: 4},
		"last":        {Lineage: "l", Seq: 5},
		"skips":       {Lineage: "l", Seq: 7},
		"next":        {Lineage: "l", Seq: 6},
	}[position]
	return b, in
}

// The edges of the facts: numbers at the beginning of a history, positions without a number, and the last byte of room.
func TestTheFactsOfAMessage(t *testing.T) {
	t.Parallel()
	at := func(seq uint64) Arrival[int] {
		return Arrival[int]{Message: new(int), HasPosition: true, Position: checkpoint.Position{Seq: seq}}
	}
	token := Arrival[int]{Message: new(int), HasPosition: true, Position: checkpoint.Position{Token: "t"}}
	sized := func(size int) Arrival[int] { return Arrival[int]{Message: new(int), Size: size} }
	for _, c := range []struct {
		name   string
		config Config
		start  checkpoint.Position
		anchor *checkpoint.Position
		before []Arrival[int]
		in     Arrival[int]
		want   Kind
	}{
		{"the first number is not known", Config{NoGaps: true}, checkpoint.Position{}, nil, nil, at(7), Next},
		{"a history begins with 1", Config{NoGaps: true}, checkpoint.Position{}, &checkpoint.Position{}, nil, at(1), Next},
		{"a history does not begin with 2", Config{NoGaps: true}, checkpoint.Position{}, &checkpoint.Position{}, nil, at(2), Gap},
		{
			"the anchor is a place without a number",
			Config{NoGaps: true},
			checkpoint.Position{},
			&checkpoint.Position{Token: "t"}, nil, at(2), Next,
		},
		{
			"after a token nobody knows the next number",
			Config{NoGaps: true},
			checkpoint.Position{},
			&checkpoint.Position{},
			[]Arrival[int]{token},
			at(2), Next,
		},
		{"a token skips nothing", Config{NoGaps: true}, checkpoint.Position{Seq: 3}, nil, nil, token, Next},
		{"holes are allowed", Config{}, checkpoint.Position{Seq: 3}, nil, nil, at(9), Next},
		{"a lineage comes to a stream that has none", Config{}, checkpoint.Position{}, nil, nil, Arrival[int]{
			Message: new(int), HasPosition: true, Position: checkpoint.Position{Lineage: "l", Seq: 1},
		}, Next},
		{"a lineage goes", Config{}, checkpoint.Position{Lineage: "l"}, nil, nil, at(1), OtherLineage},
		{"the last number of a history", Config{}, checkpoint.Position{}, nil, nil, at(math.MaxUint64 - 1), Next},
		{"an empty message takes room", Config{Hold: true, HoldLimit: MinSize}, checkpoint.Position{}, nil, nil, sized(0), Held},
		{"and there is none", Config{Hold: true, HoldLimit: MinSize - 1}, checkpoint.Position{}, nil, nil, sized(0), Overflow},
		{
			"what is held takes room",
			Config{Hold: true, HoldLimit: 500},
			checkpoint.Position{},
			nil,
			[]Arrival[int]{sized(200), sized(1)},
			sized(205), Overflow,
		},
		{
			"the last byte of it",
			Config{Hold: true, HoldLimit: 500},
			checkpoint.Position{},
			nil,
			[]Arrival[int]{sized(200), sized(1)},
			sized(204), Held,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := New[int, int](c.config)
			b.StartsFrom(c.start)
			if c.anchor != nil {
				b.Anchor(*c.anchor)
			}
			for _, in := range c.before {
				b.Arrived(1, &in, true)
			}
			require.Equal(t, c.want, b.kindOf(&c.in), "the kind of %+v", c.in)
		})
	}
}
