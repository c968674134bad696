package observe

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamsafe/streamsafe/stream"
)

// Page is a live page of all streams that have it as an observer. See [Handler].
type Page struct {
	viewers atomic.Int32 // that get events

	mu    sync.Mutex // guards the fields below
	open  map[*entry]struct{}
	ended []*entry // the newest last
}

// How much the page keeps.
const (
	maxEnded   = 100 // streams that have ended
	maxViewers = 32  // that get events at a time
	maxEvents  = 16  // of a stream
	maxText    = 240 // bytes of an error
	maxRates   = 60  // of a sparkline
)

// Handler returns a page of streams. Give it to stream.WithObserver of each stream that it is to show, on clients and servers, and
// to an HTTP server:
//
//	page := observe.Handler()
//	http.Handle("/debug/streams", page)
//
// The page shows for each stream its state and since when, the attempt, positions, what is not acknowledged, messages a second, and
// the last error; and, if it is chosen, what has happened to it lately. It is live, and needs nothing from outside. Streams that
// have a problem come first. The query has:
//
//	filter=TEXT    only streams that have each word in their name, id, method, state or errors
//	sort=COLUMN    name, state, attempt, rate, unacked, received, since, …; -COLUMN for the reverse
//	limit=N        at most so many rows. Default: 200, and 1,000 as JSON
//	stream=ID      the events of this stream, too
//	format=json    as JSON
//
// It keeps up to 16 events of each open stream, and the last 100 streams that have ended, with texts of at most 240 bytes. It asks
// the streams how many messages they had while somebody looks, and not otherwise. So the first figures come after a second.
//
// Errors and names of streams may be secrets of your users: do not show the page to everybody.
func Handler() *Page { return &Page{open: make(map[*entry]struct{})} }

// ObserveStream implements stream.StreamObserver.
func (p *Page) ObserveStream(_ context.Context, s *stream.Observed) stream.Observer { //nolint:ireturn // as the interface has it
	e := &entry{page: p, id: s.ID.String(), name: s.Name, began: s.Began, client: s, since: s.Began}
	p.add(e)
	return clientEntry{e}
}

// ObserveServerStream implements stream.ServerStreamObserver.
func (p *Page) ObserveServerStream(s *stream.ServerObserved) stream.Observer { //nolint:ireturn // as the interface has it
	e := &entry{page: p, name: s.Method, method: s.Method, began: s.Began, server: s, since: s.Began, attempt: s.Attempt.Epoch}
	if s.Attempt != (stream.Attempt{}) {
		e.id = s.Attempt.Stream.String()
	}
	p.add(e)
	return serverEntry{e}
}

func (p *Page) add(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[e] = struct{}{}
}

// end moves a stream to those that have ended.
func (p *Page) end(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.open[e]; !ok {
		return
	}
	delete(p.open, e)
	if len(p.ended) == maxEnded {
		p.ended = slices.Delete(p.ended, 0, 1)
	}
	p.ended = append(p.ended, e)
}

// all returns all streams that there are.
func (p *Page) all() (all []*entry, ended int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all = make([]*entry, 0, len(p.open)+len(p.ended))
	for e := range p.open {
		all = append(all, e)
	}
	return append(all, p.ended...), len(p.ended)
}

// look returns a row for each stream that q asks for, in its order, and how many there are.
func (p *Page) look(q *query, now time.Time) (shown []*row, sum totals) {
	all, ended := p.all()
	sum.Open, sum.Ended = len(all)-ended, ended
	rows := make([]*row, 0, len(all))
	for _, e := range all {
		r := e.row(now)
		if q.fits(r) {
			rows = append(rows, r)
			sum.count(r)
		}
	}
	slices.SortFunc(rows, q.compare)
	sum.Matched = len(rows)
	shown = rows[:min(len(rows), q.limit)]
	sum.Shown = len(shown)
	for _, r := range shown {
		r.finish(r.ID != "" && r.ID == q.stream)
	}
	return shown, sum
}

// totals are what the rows come to.
type totals struct {
	Open     int     `json:"open"`    // streams that are open
	Ended    int     `json:"ended"`   // of those that are kept
	Matched  int     `json:"matched"` // that the filter lets through
	Shown    int     `json:"shown"`
	Attached int     `json:"attached"` // of those that match
	Trouble  int     `json:"trouble"`  // of those that match, open and not attached
	Rate     float64 `json:"rate"`     // messages a second of those that match
}

func (t *totals) count(r *row) {
	switch {
	case r.Ended:
	case r.calm():
		t.Attached++
	default:
		t.Trouble++
	}
	t.Rate += r.Rate
}
