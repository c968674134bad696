package tap

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/failsafe-go/failsafe-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"

	"github.com/streamsafe/streamsafe/internal/methods"
)

// rules is what options come to. Everything in it is set at construction, then read only.
type rules struct {
	server   []gate
	methods  methods.Map[methodGates]
	keys     []*keyTable
	broken   *refusal // if the options are wrong: what every RPC gets
	fault    func(error) bool
	counters *Counters
	events   *events
}

// methodGates is what applies to the methods of one pattern.
type methodGates struct {
	gates  []gate
	exempt bool
}

// newRules returns rules that can be used even if there is an error: they refuse everything.
func newRules(opts []Option, accounts bool) (*rules, error) {
	o, err := optionsOf(opts)
	errs := []error{err}
	r := &rules{fault: o.fault, counters: o.counters, events: newEvents(o.observers)}
	maker := gateMaker{accounts, o.levels, o.delay}
	compile := func(policies []failsafe.Policy[any]) []gate {
		gates, err := maker.gatesOf(policies)
		errs = append(errs, err)
		return gates
	}
	for _, service := range []string{
		"/grpc.health.v1.Health/*", "/grpc.reflection.v1.ServerReflection/*", "/grpc.reflection.v1alpha.ServerReflection/*",
	} {
		errs = append(errs, r.methods.Set(service, methodGates{exempt: true}))
	}
	for _, m := range o.methods {
		errs = append(errs, r.methods.Set(m.pattern, methodGates{gates: compile(m.policies), exempt: m.exempt}))
	}
	r.server = compile(o.server)
	for _, k := range o.keys {
		if err == nil {
			t, err := newKeyTable(k, maker)
			errs = append(errs, err)
			r.keys = append(r.keys, t)
		}
	}
	if err := errors.Join(errs...); err != nil {
		r.broken = misconfigured(err)
		return r, fmt.Errorf("tap: %w", err)
	}
	return r, nil
}

// methodOf returns what applies to the method of an RPC, or why the RPC is refused before any policy is asked.
func (r *rules) methodOf(ctx context.Context, info *grpctap.Info) (methodGates, *refusal) {
	if !isMethod(info.FullMethodName) {
		return methodGates{}, errNoMethod()
	}
	m, _ := r.methods.Get(info.FullMethodName)
	switch {
	case m.exempt:
		return m, nil
	case r.broken != nil:
		return m, r.broken
	case ctx.Err() != nil:
		return m, refuse(ReasonExpired, ctx.Err(), 0)
	default:
		return m, nil
	}
}

// pass lets an RPC pass all its gates, or returns the refusal of the first that does not: those of its keys, of its
// method, of the server. An accountant hands in the admission.
//
// grpc runs a tap in the goroutine that reads from the connection, where a panic ends the process. One in a key, in what
// makes its policies, or in a policy refuses this RPC only.
func (r *rules) pass(ctx context.Context, info *grpctap.Info, m methodGates, adm *admission) (refused *refusal) {
	defer func() {
		if value := recover(); value != nil {
			refused = misconfigured(fmt.Errorf("a key or a policy panicked: %v", value))
		}
	}()
	for _, t := range r.keys {
		e := t.find(ctx, info)
		adm.runs(e)
		if refused := passAll(ctx, info, e.gates, adm); refused != nil {
			return refused
		}
	}
	if refused := passAll(ctx, info, m.gates, adm); refused != nil {
		return refused
	}
	return passAll(ctx, info, r.server, adm)
}

func passAll(ctx context.Context, info *grpctap.Info, gates []gate, adm *admission) *refusal {
	for _, g := range gates {
		if refused := g.pass(ctx, info.Header, adm); refused != nil {
			return refused
		}
	}
	return nil
}

// isMethod reports whether grpc would look for a method of this name. It answers others itself, and no stats.Handler
// hears of them.
func isMethod(name string) bool {
	return strings.HasPrefix(name, "/") && strings.LastIndexByte(name, '/') > 0
}

func errNoMethod() *refusal {
	return &refusal{ReasonMalformed, status.Error(codes.Unimplemented, "malformed method name")}
}

// tell counts what was decided about an RPC, and tells the observers.
func (r *rules) tell(info *grpctap.Info, refused *refusal, exempt bool) {
	switch {
	case refused != nil:
		r.counters.refused(refused.reason)
		r.events.publish(event{kind: eventRefused, method: info.FullMethodName, reason: refused.reason, err: refused.err})
	case exempt:
		r.counters.exempted()
	default:
		r.counters.admitted()
		r.events.publish(event{kind: eventAdmitted, method: info.FullMethodName})
	}
}
