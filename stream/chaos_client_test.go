package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// sendErrors are what an interceptor says when it fails.
var sendErrors = []error{
	context.Canceled, context.DeadlineExceeded, // of the interceptor's own context
	status.Error(codes.Unavailable, "interceptor"), status.Error(codes.Canceled, "interceptor"),
	status.Error(codes.DeadlineExceeded, "interceptor"), status.Error(codes.Internal, "interceptor"),
	status.Error(codes.InvalidArgument, "interceptor"), errors.New("the interceptor refuses the message"),
}

// greatest is the size of a message that grpc sends.
const greatest = 4000

// wire is an interceptor's stream.
type wire struct {
	grpc.ClientStream
	run    *chaosRun
	cancel context.CancelFunc
}

// intercept wraps each attempt's stream, in a context of the interceptor's own.
func (r *chaosRun) intercept(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
	next grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	if n := r.attempts.Add(1); r.sc.deadline > 0 { // it grows, or a slow machine would never be through
		ctx, cancel = context.WithTimeout(ctx, r.sc.deadline*time.Duration(1+n*n/50))
	}
	s, err := next(ctx, desc, conn, method, opts...)
	if err != nil {
		cancel()
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancelInterceptor = cancel
	return &wire{ClientStream: s, run: r, cancel: cancel}, nil
}

// SendMsg does to a message what the schedule has for it.
func (w *wire) SendMsg(m any) error {
	w.run.dawdle(beforeSendMsg)
	defer w.run.dawdle(afterSendMsg)
	p := parcelOf(asRequest(m))
	fate, ok := w.run.sc.fates[p.item]
	if p.kind != data || !ok || fate.pass == 0 || w.run.pass(p.item) != fate.pass {
		return w.ClientStream.SendMsg(m)
	}
	if fate.late {
		if err := w.ClientStream.SendMsg(m); err != nil {
			return err
		}
	}
	if fate.kill {
		w.cancel()
	}
	return sendErrors[fate.err]
}

// RecvMsg tells of a loss with the error of its context, where the schedule has it so.
func (w *wire) RecvMsg(m any) error {
	err := w.ClientStream.RecvMsg(m)
	w.run.dawdle(afterRecvMsg)
	if err == nil || !w.run.sc.bareRecv || errors.Is(err, io.EOF) {
		return err
	}
	if done := w.Context().Err(); done != nil && status.Code(err) == codes.Unavailable {
		return done
	}
	return err
}

// pass counts how often a message was given to grpc.
func (r *chaosRun) pass(item uint64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passes[item]++
	return r.passes[item]
}

// deafStore is the store of one process: nothing reaches it after that was killed.
type deafStore struct {
	checkpoint.Store
	journal *ledger
	killed  atomic.Bool
}

// Commit sees that nothing is committed that was not processed.
func (s *deafStore) Commit(ctx context.Context, key string, epoch uint64, at checkpoint.Position) error {
	if s.killed.Load() {
		return errors.New("the process was killed")
	}
	s.journal.committing(at)
	return s.Store.Commit(ctx, key, epoch, at)
}

// callbacks are the client's side of the protocol.
func (r *chaosRun) callbacks(life byte) stream.Callbacks[request, response] {
	cb := stream.Callbacks[request, response]{
		Resume: func(_ context.Context, on *stream.Resumption[request, response]) error { return r.resume(life, on) },
		Err: func(m *response) error {
			p := parcelOf(m)
			if p.kind == goodbye {
				return stream.Rotate
			}
			if p.kind == failure {
				return status.Error(codes.Code(p.seq), "quits")
			}
			return nil
		},
		Checkpoint: func(m *response) (checkpoint.Position, bool) {
			p := parcelOf(m)
			return positionOf(p.line, p.seq), p.kind == data || p.kind == bookmark
		},
		Control: func(m *response) bool { k := parcelOf(m).kind; return k != data && k != fragment },
	}
	if r.sc.promise == replayed {
		cb.Acked = func(m *response) (uint64, bool) { p := parcelOf(m); return p.seq, p.kind == ack }
	}
	if r.sc.promise == replayed && r.sc.slow[inReplay].every > 0 {
		cb.Replay = func(m *request, _ uint64) *request {
			r.dawdle(inReplay)
			return m
		}
	}
	if r.sc.numbers == byApplication {
		cb.Sequence = func(m *request) uint64 { return parcelOf(m).seq }
	}
	if r.sc.recovers {
		cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
			r.journal.loses(life)
			return stream.RestartFrom(checkpoint.Position{}), nil
		}
	}
	return cb
}

// positionOf and lineOf translate between lineages and their names.
func positionOf(line byte, seq uint64) checkpoint.Position {
	return checkpoint.Position{Lineage: string(rune('@' + line)), Seq: seq}
}

func lineOf(p checkpoint.Position) byte {
	if p.Lineage == "" {
		return 0
	}
	return p.Lineage[0] - '@'
}

// resume is the Resume callback.
func (r *chaosRun) resume(life byte, on *stream.Resumption[request, response]) error {
	r.journal.resumes(life, on.Attempt())
	r.dawdle(inResume)
	at := on.Position()
	if err := on.Send(parcel{kind: hello, line: lineOf(at), seq: at.Seq, item: on.Attempt(), life: life}.request()); err != nil {
		return err
	}
	if !r.sc.handshake {
		return nil
	}
	m, err := on.Recv()
	if err != nil {
		return err
	}
	answer := parcelOf(m)
	if answer.kind == failure {
		return status.Error(codes.Code(answer.seq), "quits")
	}
	if r.sc.promise == replayed {
		on.Acknowledge(answer.seq)
	}
	if answer.line != 0 {
		on.StartsAt(positionOf(answer.line, answer.item))
	}
	return nil
}

// options are those of the schedule.
func (r *chaosRun) options(store checkpoint.Store) []stream.ClientOption {
	sc := r.sc
	opts := []stream.ClientOption{
		stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithBackoff(200*time.Microsecond, 2*time.Millisecond).Build()),
		stream.WithCallOptions(grpc.MaxCallSendMsgSize(greatest)), stream.WithIdleTimeout(sc.idle),
		stream.WithAckTimeout(sc.ackLimit),
	}
	switch sc.promise {
	case replayed:
		opts = append(opts, stream.WithReplay(sc.window))
	case atMostOnce:
		opts = append(opts, stream.WithAtMostOnceSends())
	case inDoubt:
	}
	if sc.holds {
		opts = append(opts, stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
	}
	if sc.gaps {
		opts = append(opts, stream.WithGapDetection())
	}
	if sc.age > 0 {
		opts = append(opts, stream.WithMaxAge(sc.age, sc.age/2))
	}
	opts = append(opts, stream.WithGrace(30*time.Millisecond))
	if sc.endless {
		opts = append(opts, stream.WithEndless())
	}
	if sc.receipt {
		opts = append(opts, stream.WithOKAcknowledges())
	}
	opts = append(opts, restrainBoth(r.sends, r.recvs)...)
	if len(sc.lives) > 1 {
		opts = append(opts, stream.WithStore(store, "key", stream.CommitEvery(3)))
	}
	return opts
}

// live is one client process, from its start to its end. It reports whether another one follows.
func (r *chaosRun) live(n int) bool {
	life := byte(n + 1)
	store := &deafStore{Store: r.store, journal: r.journal}
	r.journal.begins(life, r.stored())
	r.journal.does("main", "Resilient of process %d", life)
	s, err := stream.Resilient(r.ctx, testpb.NewTestServiceClient(r.conn).FullDuplexCall, r.callbacks(life),
		r.options(store)...)
	if err != nil {
		r.journal.ends(life, err, nil)
		return false
	}
	r.adopt(s)
	a := &application{run: r, s: s, life: life, plan: r.sc.lives[n], store: store}
	more := a.work()
	r.journal.does("main", "Close of process %d", life)
	if err := s.Close(); err != nil && !store.killed.Load() {
		r.journal.finds("commits reach the store: Close of process %d returned %v", life, err)
	}
	r.journal.leaves(life, s)
	return more
}

// stored is the position in the store.
func (r *chaosRun) stored() checkpoint.Position {
	record, err := r.store.Load(context.WithoutCancel(r.ctx), "key")
	if err != nil {
		return checkpoint.Position{}
	}
	return record.Position
}

// application is what uses the stream of one process.
type application struct {
	run   *chaosRun
	s     *client
	life  byte
	plan  life
	store *deafStore
	got   int
}

// work sends and receives until the stream or the process ends. It reports whether another process follows.
func (a *application) work() bool {
	first := a.run.journal.resend(a.run.sc.promise, a.s.Stats().Acked)
	if a.run.sc.style != inTwoGoroutines {
		a.send(first)
		return a.receive(0)
	}
	sent := make(chan struct{})
	go func() { // ends with the stream; the line below waits for it
		defer close(sent)
		a.send(first)
	}()
	more := a.receive(0)
	<-sent
	return more
}

// send sends all messages from the first one.
func (a *application) send(first uint64) {
	last := uint64(a.run.sc.messages)
	for item := first; item <= last; item++ {
		accepted, denied, ended := a.sendOne(item)
		if ended {
			break
		}
		if accepted && a.run.sc.style == asksAndWaits {
			a.receive(1)
		}
		if denied && a.run.sc.retries && last < first+200 {
			last++
			a.run.rest(500 * time.Microsecond)
		}
	}
	if a.run.sc.flushes {
		a.flush()
	}
	a.run.journal.does("sender", "CloseSend of process %d", a.life)
	_ = a.s.CloseSend()
	a.run.journal.does("sender", "")
}

// flush waits for the acknowledgement of everything: then the server has it.
func (a *application) flush() {
	j := a.run.journal
	j.does("sender", "Flush of process %d", a.life)
	if err := a.s.Flush(a.run.ctx); err != nil {
		return
	}
	stored := a.run.db.items()
	for _, item := range j.accepted(a.life) {
		if !slices.Contains(stored, item) {
			j.finds("no loss looks like success: Flush of process %d returned nil, and message %d is not at the server", a.life, item)
		}
	}
}

// sendOne sends one message. It reports whether Send accepted it, whether a policy denied it, and whether the stream has ended.
func (a *application) sendOne(item uint64) (accepted, denied, ended bool) {
	j, sc := a.run.journal, a.run.sc
	number := j.sends(a.life, item)
	m := parcel{kind: data, seq: number, item: item, life: a.life, size: sc.paddingOf(item)}.request()
	if fate, ok := sc.fates[item]; ok && fate.pass == 0 {
		if m.ResponseStatus = (&testpb.EchoStatus{Message: "\xff"}); fate.err%2 == 0 {
			m = parcel{kind: data, seq: number, item: item, life: a.life, size: greatest}.request()
		}
	}
	a.run.reached(sending)
	err := a.s.Send(m)
	var st stream.Stats
	if err != nil || item%8 == 0 { // it takes the way of messages off its fast lane
		st = a.s.Stats()
	}
	if sc.promise == replayed && st.Unacked > sc.window.Messages {
		j.finds("bounded: %d messages are kept, and the window is %d", st.Unacked, sc.window.Messages)
	}
	if denied = isDenied(err); denied {
		j.denied(a.run.sends, err)
	}
	return err == nil, denied, j.sent(a.life, item, err, st.LastSeq >= number, st.State)
}

// receive receives so many numbered messages, zero: until the stream or the process ends. It reports whether the process
// has ended, and another follows.
func (a *application) receive(numbered int) bool {
	j := a.run.journal
	for n := 0; numbered == 0 || n < numbered; {
		j.receives(a.life)
		m, err := a.s.Recv()
		if isDenied(err) {
			j.denied(a.run.recvs, err)
			a.run.rest(500 * time.Microsecond)
			continue
		}
		if err != nil {
			if numbered == 0 {
				j.ends(a.life, err, a.s)
			}
			return false
		}
		p := parcelOf(m)
		j.got(a.life, p)
		a.run.dawdle(withMessage)
		a.run.reached(gotOne)
		if p.kind == data {
			n++
		}
		if a.got++; a.got == a.plan.receives {
			return a.leave()
		}
	}
	return false
}

// leave ends the process as planned. It reports true: another one follows.
func (a *application) leave() bool {
	j := a.run.journal
	j.closes(a.life, a.plan.end == commitsAndCloses)
	switch a.plan.end {
	case commitsAndCloses:
		j.does("receiver", "Commit of process %d", a.life)
		if err := a.s.Commit(a.run.ctx); err == nil {
			j.committedAll(a.life, a.run.stored())
		} else if a.s.State() != stream.Closed && a.run.ctx.Err() == nil {
			j.finds("commits reach the store: Commit of process %d returned %v", a.life, err)
		}
	case closes:
	case isKilled:
		a.store.killed.Store(true)
	}
	j.does("receiver", "Close of process %d", a.life)
	_ = a.s.Close()
	j.ends(a.life, fmt.Errorf("process %d %v: %w", a.life, a.plan.end, stream.ErrClosed), a.s)
	return true
}
