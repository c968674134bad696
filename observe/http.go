package observe

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var pageSource string

// templates returns the page and its parts. It is parsed for each answer that needs it: nobody looks often.
func templates() (*template.Template, error) {
	return template.New("page").Funcs(template.FuncMap{"since": since, "line": line, "rate": rate}).Parse(pageSource)
}

// view is what the template gets.
type view struct {
	Nonce    string
	Query    *query
	Filter   string
	Column   string
	Selected *row
	Rows     []*row
	Totals   totals
	Now      time.Time
	Columns  []column
}

// column is a head of the table.
type column struct {
	Title, Link string
	Sorted      string // for aria-sort
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	values := r.URL.Query()
	switch values.Get("format") {
	case "json":
		p.serveJSON(w, parse(values, defaultJSON))
	case "events":
		p.serveEvents(w, r, values)
	case "":
		p.servePage(w, values)
	default:
		http.Error(w, "format is json, or nothing", http.StatusBadRequest)
	}
}

func (p *Page) serveJSON(w http.ResponseWriter, q *query) {
	rows, sum := p.look(q, time.Now())
	data, err := json.Marshal(struct {
		Totals  totals `json:"totals"`
		Streams []*row `json:"streams"`
	}{sum, rows})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

func (p *Page) servePage(w http.ResponseWriter, values url.Values) {
	t, err := templates()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	v := p.view(values)
	v.Nonce = rand.Text()
	var page bytes.Buffer
	if err := t.Execute(&page, v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; connect-src 'self'; form-action 'self'; "+
		"base-uri 'none'; frame-ancestors 'none'; style-src 'nonce-%s'; script-src 'nonce-%s'", v.Nonce, v.Nonce))
	_, _ = w.Write(page.Bytes())
}

// view looks for what a query asks for.
func (p *Page) view(values url.Values) *view {
	q := parse(values, defaultRows)
	v := &view{Query: q, Filter: q.filter, Column: values.Get("sort"), Now: time.Now()}
	v.Rows, v.Totals = p.look(q, v.Now)
	for _, r := range v.Rows {
		if r.Events != nil {
			v.Selected = r
		}
	}
	heads := [...][2]string{
		{"Stream", "name"},
		{"State", "state"},
		{"Since", "since"},
		{"Attempt", "-attempt"},
		{"Outages", "-outages"},
		{"Position", "-position"},
		{"Unacked", "-unacked"},
		{"Waiting", "-waiting"},
		{"Received", "-received"},
		{"Messages/s", "-rate"},
	}
	for _, c := range heads {
		link := column{Title: c[0], Link: c[1]}
		if name := strings.TrimPrefix(c[1], "-"); q.column == name {
			link.Link, link.Sorted = "-"+name, "ascending"
			if q.down {
				link.Link, link.Sorted = name, "descending"
			}
		}
		v.Columns = append(v.Columns, link)
	}
	return v
}

// tick is how often a page is brought up to date.
const tick = time.Second

// serveEvents sends the parts of the page that change, until the client goes.
func (p *Page) serveEvents(w http.ResponseWriter, r *http.Request, values url.Values) {
	defer p.viewers.Add(-1)
	if p.viewers.Add(1) > maxViewers {
		http.Error(w, "too many look at this page", http.StatusServiceUnavailable)
		return
	}
	t, err := templates()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for nginx
	control := http.NewResponseController(w)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var last string
	for {
		parts, err := p.parts(t, values)
		if err != nil {
			return
		}
		message := ": nothing new\n\n"
		if parts != last {
			message, last = "data: "+parts+"\n\n", parts
		}
		_ = control.SetWriteDeadline(time.Now().Add(10 * time.Second)) // a client that does not read is let go
		if _, err := w.Write([]byte(message)); err != nil || control.Flush() != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}

// parts returns the parts of the page that change, as JSON.
func (p *Page) parts(t *template.Template, values url.Values) (string, error) {
	v := p.view(values)
	parts := make(map[string]string)
	for _, name := range [...]string{"totals", "rows", "detail"} {
		var part bytes.Buffer
		if err := t.ExecuteTemplate(&part, name, v); err != nil {
			return "", err
		}
		parts[name] = part.String()
	}
	data, err := json.Marshal(parts) // without a line break
	return string(data), err
}

// since returns how long ago at was, in the unit that a person would take.
func since(now, at time.Time) string {
	d := max(0, now.Sub(at))
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	default:
		return strconv.Itoa(int(d.Hours()/24)) + " d"
	}
}

func rate(r float64) string {
	if r < 10 {
		return strconv.FormatFloat(r, 'f', 1, 64)
	}
	return strconv.FormatFloat(r, 'f', 0, 64)
}

// line returns the points of a sparkline in a box of 60 by 16.
func line(rates []float32) string {
	var most float32
	for _, r := range rates {
		most = max(most, r)
	}
	var b strings.Builder
	for i, r := range rates {
		y := float32(15)
		if most > 0 {
			y -= 14 * r / most
		}
		fmt.Fprintf(&b, "%d,%.1f ", maxRates-len(rates)+i, y)
	}
	return b.String()
}
