package outbox

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The names that the table uses.
var (
	saidNames    = []string{OK: "OK", Dead: "Dead", Rejected: "Rejected", Lost: "Lost", Failed: "Failed"}
	encodedNames = []string{Unknown: "Unknown", No: "No", Yes: "Yes"}
	messageNames = []string{Sent: "Sent", InDoubt: "InDoubt", TakenBack: "TakenBack", Again: "Again"}
	attemptNames = []string{Lives: "Lives", Suspect: "Suspect", Aborted: "Aborted", GivenUp: "GivenUp"}
	returnNames  = []string{Sent: "nil", InDoubt: "the error", TakenBack: "the error", Again: "–"}
)

// row is a line of the table in the doc comment of Outcome: what it asks for, and what it says.
type row struct {
	line    string
	when    []string // the columns said, encoded, kept; "–" fits anything
	outcome Outcome
}

// outcomeTable reads the table from the doc comment of Outcome.
func outcomeTable() ([]row, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "outcome.go", nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, decl := range file.Decls {
		types, ok := decl.(*ast.GenDecl)
		if !ok || types.Tok != token.TYPE || types.Specs[0].(*ast.TypeSpec).Name.Name != "Outcome" {
			continue
		}
		for line := range strings.Lines(types.Doc.Text()) {
			if !strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "\tsaid") {
				continue
			}
			cells := slices.DeleteFunc(strings.Split(strings.TrimSpace(line), "  "), func(cell string) bool { return cell == "" })
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			if len(cells) != 6 {
				return nil, fmt.Errorf("a line of the table that has not six cells: %q", line)
			}
			message, attempt := slices.Index(messageNames, cells[3]), slices.Index(attemptNames, cells[4])
			if message < 0 || attempt < 0 || cells[5] != returnNames[message] {
				return nil, fmt.Errorf("a line of the table that says nothing, or that Send returns something else: %q", line)
			}
			rows = append(rows, row{
				line: strings.TrimSpace(line), when: cells[:3],
				outcome: Outcome{Message(message), Attempt(attempt)}, //nolint:gosec // indexes of short lists
			})
		}
	}
	return rows, nil
}

// outcomeIn returns the lines that fit.
func outcomeIn(rows []row, said Said, encoded Encoded, kept bool) (fit []row) {
	facts := []string{saidNames[said], encodedNames[encoded], map[bool]string{true: "yes", false: "no"}[kept]}
	for _, r := range rows {
		fits := true
		for i, cell := range r.when {
			fits = fits && (cell == "–" || slices.Contains(strings.Split(cell, " or "), facts[i]))
		}
		if fits {
			fit = append(fit, r)
		}
	}
	return fit
}

// Every combination of facts that there is has exactly one line in the table, every line has one, and the code decides what the
// table says (invariant 34).
func TestTheTableOfOutcomes(t *testing.T) {
	t.Parallel()
	rows, err := outcomeTable()
	require.NoError(t, err)
	require.Len(t, rows, 9, "lines of the table in the doc comment of Outcome")
	hit := map[string]bool{}
	for said := OK; said <= Failed; said++ {
		for encoded := Unknown; encoded <= Yes; encoded++ {
			for _, kept := range []bool{true, false} {
				if kept == (encoded == Unknown) {
					continue // with replay there is a codec that knows, and without there is none
				}
				facts := fmt.Sprintf("%s, encoded: %s, kept: %t", saidNames[said], encodedNames[encoded], kept)
				fit := outcomeIn(rows, said, encoded, kept)
				require.Len(t, fit, 1, "lines for %s", facts)
				hit[fit[0].line] = true
				require.Equal(t, fit[0].outcome, outcomeOf(said, encoded, kept), "what %s means; the table says: %s", facts, fit[0].line)
			}
		}
	}
	for said := OK; said <= Failed; said++ { // and those that there are not
		for encoded := Unknown; encoded <= Yes; encoded++ {
			for _, kept := range []bool{true, false} {
				for _, r := range outcomeIn(rows, said, encoded, kept) {
					hit[r.line] = true
					require.Equal(t, r.outcome, outcomeOf(said, encoded, kept), "the table says: %s", r.line)
				}
			}
		}
	}
	for _, r := range rows {
		require.True(t, hit[r.line], "nothing is decided by this line: %s", r.line)
	}
}
