package permit

import (
	"context"

	"github.com/failsafe-go/failsafe-go"
)

// Chain is several policies, the outermost first. It is read only once it is made, and safe for concurrent use.
type Chain struct{ gates []*Gate }

// NewChain returns the chain of the policies, or the first error of [New].
func NewChain(policies ...failsafe.Policy[any]) (*Chain, error) {
	c := &Chain{gates: make([]*Gate, 0, len(policies))}
	for _, p := range policies {
		g, err := New(p)
		if err != nil {
			return nil, err
		}
		c.gates = append(c.gates, g)
	}
	return c, nil
}

// Gates returns the policies, the outermost first.
func (c *Chain) Gates() []*Gate { return c.gates }

// Held is the permits that a piece of work holds. The zero Held holds none. It is used by one goroutine, and allocates
// nothing for up to 4 permits.
type Held struct {
	first [4]Permit
	more  []Permit
	n     int // how many there are
}

func (h *Held) at(i int) *Permit {
	if i < len(h.first) {
		return &h.first[i]
	}
	return &h.more[i-len(h.first)]
}

func (h *Held) hold(p Permit) {
	if p.IsZero() {
		return
	}
	if h.n < len(h.first) {
		h.first[h.n] = p
	} else {
		h.more = append(h.more, p)
	}
	h.n++
}

// Acquire takes a permit of each policy, from the outside in, and puts them into h, which is empty before. If one denies, or
// ctx is done, those that were taken are ended: h is empty, and the error is that of Gate.Acquire. If a policy has denied,
// Acquire returns it.
func (c *Chain) Acquire(ctx context.Context, h *Held) (denied *Gate, err error) {
	done := false
	defer func() { // also if a policy panics, or ends the goroutine
		if !done {
			h.End(Unrun, nil)
		}
	}()
	for _, g := range c.gates {
		p, err := g.acquire(ctx)
		if err == nil {
			h.hold(p)
			continue
		}
		if err == g.denial { //nolint:errorlint // the policy's own denial, and not what ctx carries
			denied = g
			h.End(Denied, err)
		} else {
			h.End(Left, nil)
		}
		done = true
		return denied, err
	}
	done = true
	return nil, nil
}

// End ends what h holds, from the inside out, also the permits around one whose policy panics. h is empty then.
func (h *Held) End(o Outcome, err error) {
	defer func() {
		if h.n > 0 { // a policy panics, or ends the goroutine
			h.End(o, err)
		}
	}()
	for h.n > 0 {
		p := h.pop()
		p.End(o, err)
	}
}

// pop takes the innermost permit out of h.
func (h *Held) pop() Permit {
	h.n--
	at := h.at(h.n)
	p := *at
	*at = Permit{}
	if h.n >= len(h.first) {
		h.more = h.more[:h.n-len(h.first)]
	}
	return p
}

// Fault tells circuit breakers and throttlers of a failure, while the work goes on. What they hear at its end counts besides.
// A half-open circuit breaker has its verdict then, and its permit is used up.
func (h *Held) Fault(err error) {
	for i := h.n - 1; i >= 0; i-- {
		p := h.at(i)
		switch of := p.of.(type) {
		case *halfOpenBreaker:
			p.of = (*breaker)(of)
			of.end(*p, Fault, err)
		case *breaker:
			of.end(*p, Fault, err)
		case *throttler:
			of.end(*p, Fault, err)
		}
	}
}
