package observe

import (
	"cmp"
	"net/url"
	"strconv"
	"strings"
)

// query is what a request asks for.
type query struct {
	filter string
	words  []string // of the filter, in lower case
	column string
	by     func(a, b *row) int // nil without a column
	down   bool
	limit  int
	stream string
}

// How many rows there are.
const (
	defaultRows = 200
	defaultJSON = 1000
	maxRows     = 100_000
)

// parse reads a query. What it does not know it ignores.
func parse(values url.Values, rows int) *query {
	q := &query{filter: values.Get("filter"), column: values.Get("sort"), limit: rows, stream: values.Get("stream")}
	q.words = strings.Fields(strings.ToLower(q.filter))
	if len(q.words) > 8 {
		q.words = q.words[:8]
	}
	q.column, q.down = strings.CutPrefix(q.column, "-")
	if q.by = columns()[q.column]; q.by == nil {
		q.column, q.down = "", false
	}
	if n, err := strconv.Atoi(values.Get("limit")); err == nil && n > 0 {
		q.limit = min(n, maxRows)
	}
	return q
}

func (q *query) fits(r *row) bool {
	for _, word := range q.words {
		if !r.has(word) {
			return false
		}
	}
	return true
}

// compare orders rows: by the column, and then so that it does not change from one look to the next.
func (q *query) compare(a, b *row) int {
	by := 0
	if q.by != nil {
		by = q.by(a, b)
	}
	if q.down {
		by = -by
	}
	if by != 0 {
		return by
	}
	return cmp.Or(cmp.Compare(a.severity(), b.severity()), cmp.Compare(a.Stream, b.Stream), a.Began.Compare(b.Began), cmp.Compare(a.ID, b.ID))
}

// columns returns what rows can be sorted by.
func columns() map[string]func(a, b *row) int {
	return map[string]func(a, b *row) int{
		"name":     func(a, b *row) int { return cmp.Compare(a.Stream, b.Stream) },
		"side":     func(a, b *row) int { return cmp.Compare(a.Side, b.Side) },
		"state":    func(a, b *row) int { return cmp.Compare(a.State, b.State) },
		"since":    func(a, b *row) int { return a.Since.Compare(b.Since) },
		"attempt":  func(a, b *row) int { return cmp.Compare(a.Attempt, b.Attempt) },
		"outages":  func(a, b *row) int { return cmp.Compare(a.Outages, b.Outages) },
		"position": func(a, b *row) int { return cmp.Compare(a.positions[0].Seq, b.positions[0].Seq) },
		"unacked":  func(a, b *row) int { return cmp.Compare(a.Unacked, b.Unacked) },
		"received": func(a, b *row) int { return cmp.Compare(a.Received, b.Received) },
		"waiting":  func(a, b *row) int { return cmp.Compare(a.Waiting, b.Waiting) },
		"rate":     func(a, b *row) int { return cmp.Compare(a.Rate, b.Rate) },
	}
}
