package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/examples/streaming/countpb"
	"github.com/streamsafe/streamsafe/stream"
)

const (
	storeKey    = "lines"
	commitEvery = 100 // answers
	window      = 256 // lines on their way
)

type clientStream = stream.ClientStream[countpb.Request, countpb.Response]

// client sends the lines of a file and writes the answers to a journal. It can be killed at any time; the next one with
// the same store and journal goes on where it was.
type client struct {
	// set at construction, then read only
	input   string
	lines   uint64 // in input
	address string
	store   checkpoint.Store
	journal string
	report  func(report) // told now and then how it goes, by one goroutine

	session string // written by run before the stream is opened, then read only

	committed atomic.Uint64 // number of the last answer that is in the journal for good
}

// run does the job, or what an earlier process left of it.
func (c *client) run(ctx context.Context) (err error) {
	// The journal is cut back to the checkpoint before the first answer can come. Nobody moves the checkpoint between
	// here and the opening of the stream: the directory of the store is locked.
	record, err := c.store.Load(ctx, storeKey)
	if err != nil && !errors.Is(err, checkpoint.ErrNotFound) {
		return err
	}
	done := record.Position.Seq
	answers, err := openJournal(c.journal, done)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, answers.close()) }()
	c.committed.Store(done)
	if done == c.lines {
		return nil // an earlier process got to the end
	}
	if c.session = record.Position.Lineage; c.session == "" {
		c.session = rand.Text() // a new job
	}
	conn, err := dial(c.address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return c.exchange(ctx, conn, answers)
}

// exchange opens the stream, sends in one goroutine and receives in another.
func (c *client) exchange(ctx context.Context, conn *grpc.ClientConn, answers *journal) error {
	changes := make(changes, 1)
	both, ctx := errgroup.WithContext(ctx) // the first of the two that fails ends the stream for both
	s, err := stream.Resilient(ctx, countpb.NewCounterClient(conn).Count, c.callbacks(),
		// What was sent is kept until it is answered, and sent again after a break.
		stream.WithReplay(stream.ReplayLimits{Messages: window}),
		// The server learns which attempt is the newest, and ends the handlers of older ones.
		stream.WithResumeMetadata(),
		// The position is kept in the store. It is for receive to say when an answer is safe.
		stream.WithStore(c.store, storeKey), stream.WithManualCommit(),
		// Answers come without holes; one that is missing is an error.
		stream.WithGapDetection(),
		// There is always a line to be answered, so silence means that something is wrong. If it is the connection, that is
		// closed: see stream.DialOptions.
		stream.WithIdleTimeout(100*time.Millisecond), stream.WithOpenTimeout(2*time.Second),
		// The server is on this machine, and can be asked again soon. Over a real network the defaults are right.
		stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithBackoff(20*time.Millisecond, 200*time.Millisecond).Build()),
		stream.WithStableFor(100*time.Millisecond),
		stream.WithObserver(changes),
	)
	if err != nil {
		return err
	}
	stop := c.startReports(s, changes)
	both.Go(func() error { return c.send(s) })                  // ends with the input or the stream; Wait waits
	both.Go(func() error { return c.receive(ctx, s, answers) }) // ends with the stream; Wait waits
	err = both.Wait()
	closeErr := s.Close()
	stop()
	return errors.Join(err, closeErr)
}

// callbacks tell the stream how the protocol works.
func (c *client) callbacks() stream.Callbacks[countpb.Request, countpb.Response] {
	return stream.Callbacks[countpb.Request, countpb.Response]{
		Resume: c.resume,
		// An answer is a place to go on from. The session names the history that answers are counted in.
		Checkpoint: func(m *countpb.Response) (checkpoint.Position, bool) {
			a := m.GetAnswer()
			return checkpoint.Position{Lineage: c.session, Seq: a.GetNumber()}, a != nil
		},
		// An answer also acknowledges its line: the line need not be sent again.
		Acked: func(m *countpb.Response) (uint64, bool) {
			a := m.GetAnswer()
			return a.GetNumber(), a != nil
		},
		// Lines are numbered by their place in the file, in this process as in any other.
		Sequence: func(m *countpb.Request) uint64 { return m.GetLine().GetNumber() },
	}
}

// resume begins every attempt, the first included.
func (c *client) resume(_ context.Context, r *stream.Resumption[countpb.Request, countpb.Response]) error {
	from := r.Position() // of the last answer that receive was given, or that an earlier process has committed
	if from.Seq == c.lines {
		return stream.Complete // the connection broke after the last answer
	}
	if from.IsZero() {
		r.StartsAt(checkpoint.Position{Lineage: c.session}) // a new job: it begins here
	}
	err := r.Send(&countpb.Request{Kind: &countpb.Request_Hello{Hello: &countpb.Hello{
		Session: c.session, Position: from.Seq, Confirmed: c.committed.Load(),
	}}})
	if err != nil {
		return err
	}
	m, err := r.Recv()
	if err != nil {
		return err
	}
	// The server may have lines whose answers were lost on the way. They count as sent, also where that was done by a
	// process that is no more, and their answers come next.
	r.Acknowledge(m.GetWelcome().GetReceived())
	return nil
}

// send sends the lines that the server does not have.
func (c *client) send(s *clientStream) error {
	first := s.Stats().Acked + 1
	number := uint64(0)
	for text, err := range lines(c.input) {
		if err != nil {
			return err
		}
		if number++; number < first {
			continue
		}
		err := s.Send(&countpb.Request{Kind: &countpb.Request_Line{Line: &countpb.Line{
			Number: number, Text: text, Confirmed: c.committed.Load(),
		}}})
		if errors.Is(err, io.EOF) {
			return nil // the server has ended the stream, and Recv tells how
		}
		if err != nil {
			return err
		}
	}
	return s.CloseSend()
}

// receive writes the answers to the journal, and commits the position only after they are safe there.
func (c *client) receive(ctx context.Context, s *clientStream, answers *journal) error {
	for number := c.committed.Load(); ; {
		m, err := s.Recv()
		ended := errors.Is(err, io.EOF)
		if err != nil && !ended {
			return err
		}
		if !ended {
			number = m.GetAnswer().GetNumber()
			if err := answers.append(m.GetAnswer()); err != nil {
				return err
			}
		}
		if ended || number%commitEvery == 0 {
			if err := c.commit(ctx, s, answers, number); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
	}
}

// commit makes all answers up to a number safe, in this order: the answers, then the position.
func (c *client) commit(ctx context.Context, s *clientStream, answers *journal, number uint64) error {
	if err := answers.sync(); err != nil {
		return err
	}
	if err := s.Commit(ctx); err != nil {
		return err
	}
	c.committed.Store(number)
	return nil
}

// dial makes a client connection that comes back soon after the server, and that notices if it is dead.
func dial(address string) (*grpc.ClientConn, error) {
	return stream.NewConn("passthrough:///"+address, insecure.NewCredentials())
}
