package observe

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/tap"
	"github.com/streamsafe/streamsafe/unary"
)

// Logger is an observer that logs. Give it to WithObserver of stream (for clients and servers), unary and tap. It may be shared by
// all of them. See [Slog].
type Logger struct {
	log   *slog.Logger // set at construction, then read only
	quiet *quiet       // for what is not of one stream
}

// Slog returns an observer that logs with logger. nil is slog.Default.
//
// The levels:
//
//   - WARN is what somebody has to look at: the stream has ended for good, lost its position, was fenced, cannot commit, a Send
//     waits for acknowledgements; a handler has panicked; a policy denies.
//   - INFO is what explains: an attempt is lost, what a connection waits for, an attempt is attached again, a stream was refused
//     or has ended early.
//   - DEBUG is everything else.
//
// Messages are never logged. What may happen for each message or call is logged once a minute at most, with the number of those
// that were left out as "more". Errors are logged as text. A stream is named by its name and the beginning of its id, which is the
// same on the server if the client uses WithResumeMetadata.
func Slog(logger *slog.Logger) *Logger {
	if logger == nil {
		logger = slog.Default()
	}
	return &Logger{log: logger, quiet: newQuiet()}
}

// ObserveStream implements stream.StreamObserver.
func (l *Logger) ObserveStream(_ context.Context, s *stream.Observed) stream.Observer { //nolint:ireturn // as the interface has it
	return &streamLogger{log: l.log, observed: s, quiet: newQuiet()}
}

// write logs a record of the time at.
func write(log *slog.Logger, level slog.Level, at time.Time, text string, attrs ...slog.Attr) {
	ctx := context.Background()
	if !log.Enabled(ctx, level) {
		return
	}
	r := slog.NewRecord(at, level, text, 0)
	r.AddAttrs(attrs...)
	_ = log.Handler().Handle(ctx, r)
}

// streamLogger logs for one stream.
type streamLogger struct {
	log      *slog.Logger     // set at construction, then read only
	observed *stream.Observed // set at construction, then read only
	quiet    *quiet
}

func (l *streamLogger) write(level slog.Level, info stream.Info, text string, attrs ...slog.Attr) {
	all := append(make([]slog.Attr, 0, 8),
		slog.String("stream", info.Name), slog.String("id", info.Stream.String()), slog.Uint64("attempt", info.Attempt))
	if method := l.observed.Method(); method != "" && method != info.Name {
		all = append(all, slog.String("method", method))
	}
	write(l.log, level, info.Time, text, append(all, attrs...)...)
}

// warnNowAndThen warns once a minute.
func (l *streamLogger) warnNowAndThen(info stream.Info, text string, attrs ...slog.Attr) {
	if more, ok := l.quiet.allow(text, info.Time); ok {
		l.write(slog.LevelWarn, info, text, append(attrs, slog.Int("more", more))...)
	}
}

func errorAttr(err error) slog.Attr {
	if err == nil {
		return slog.String("error", "")
	}
	return slog.String("error", err.Error())
}

// OnOpened implements stream.OpenedObserver.
func (l *streamLogger) OnOpened(info stream.Info) {
	l.write(slog.LevelDebug, info, "stream attempt is opened")
}

// OnAttached implements stream.AttachedObserver.
func (l *streamLogger) OnAttached(info stream.Info, from checkpoint.Position) {
	l.write(slog.LevelInfo, info, "stream is attached", slog.Uint64("after", from.Seq))
}

// OnDetached implements stream.DetachedObserver.
func (l *streamLogger) OnDetached(info stream.Info, cause error) {
	l.write(slog.LevelInfo, info, "stream attempt is lost", errorAttr(cause))
}

// OnWaiting implements stream.WaitingObserver.
func (l *streamLogger) OnWaiting(info stream.Info, cause error) {
	l.write(slog.LevelInfo, info, "stream waits for its connection", errorAttr(cause))
}

// OnReconnectScheduled implements stream.ReconnectScheduledObserver.
func (l *streamLogger) OnReconnectScheduled(info stream.Info, delay time.Duration) {
	l.write(slog.LevelDebug, info, "stream waits before the next attempt", slog.Duration("delay", delay))
}

// OnReplaying implements stream.ReplayingObserver.
func (l *streamLogger) OnReplaying(info stream.Info, messages uint64) {
	l.write(slog.LevelDebug, info, "stream sends unacknowledged messages again", slog.Uint64("messages", messages))
}

// OnRewound implements stream.RewoundObserver.
func (l *streamLogger) OnRewound(info stream.Info, messages uint64) {
	l.write(slog.LevelDebug, info, "messages after the last position may come again", slog.Uint64("messages", messages))
}

// OnHeldOverflow implements stream.HeldOverflowObserver.
func (l *streamLogger) OnHeldOverflow(info stream.Info, messages uint64, bytes int) {
	l.warnNowAndThen(info, "too much is held until a checkpoint", slog.Uint64("messages", messages), slog.Int("bytes", bytes))
}

// OnWindowFull implements stream.WindowFullObserver.
func (l *streamLogger) OnWindowFull(info stream.Info, messages uint64, bytes int) {
	l.warnNowAndThen(info, "the replay buffer is full: the server does not acknowledge",
		slog.Uint64("messages", messages), slog.Int("bytes", bytes))
}

// OnCommitFailed implements stream.CommitFailedObserver.
func (l *streamLogger) OnCommitFailed(info stream.Info, at checkpoint.Position, cause error) {
	l.warnNowAndThen(info, "the position was not stored", slog.Uint64("position", at.Seq), errorAttr(cause))
}

// OnFenced implements stream.FencedObserver.
func (l *streamLogger) OnFenced(info stream.Info, cause error) {
	l.write(slog.LevelWarn, info, "another owner has the key of the stream", errorAttr(cause))
}

// OnRotating implements stream.RotatingObserver.
func (l *streamLogger) OnRotating(info stream.Info, cause error) {
	l.write(slog.LevelDebug, info, "stream attempt is to be replaced", errorAttr(cause))
}

// OnRotated implements stream.RotatedObserver.
func (l *streamLogger) OnRotated(info stream.Info, from uint64) {
	l.write(slog.LevelDebug, info, "stream attempt has taken over", slog.Uint64("from", from))
}

// OnRotationPutOff implements stream.RotationPutOffObserver.
func (l *streamLogger) OnRotationPutOff(info stream.Info, cause error) {
	l.write(slog.LevelInfo, info, "stream attempt could not be replaced, and goes on", errorAttr(cause))
}

// OnGap implements stream.GapObserver.
func (l *streamLogger) OnGap(info stream.Info, cause error) {
	l.write(slog.LevelWarn, info, "a sequence number is missing", errorAttr(cause))
}

// OnLost implements stream.LostObserver.
func (l *streamLogger) OnLost(info stream.Info, from checkpoint.Position, cause error) {
	l.write(slog.LevelWarn, info, "the position was lost, and the stream continues from another one",
		slog.Uint64("after", from.Seq), errorAttr(cause))
}

// OnClosed implements stream.ClosedObserver.
func (l *streamLogger) OnClosed(info stream.Info, cause error) {
	level := slog.LevelWarn
	if isOrdinaryEnd(cause) {
		level = slog.LevelInfo
	}
	l.write(level, info, "stream has ended", errorAttr(cause))
}

// isOrdinaryEnd reports whether a stream of a client has ended as it should: with OK, or because the application has ended it.
func isOrdinaryEnd(cause error) bool {
	if e, ok := errors.AsType[*stream.Error](cause); ok {
		return e.Reason == stream.ReasonClosed || e.Reason == stream.ReasonContext
	}
	return errors.Is(cause, io.EOF)
}

func (l *Logger) writeServer(level slog.Level, info stream.ServerInfo, text string, attrs ...slog.Attr) {
	all := append(make([]slog.Attr, 0, 8), slog.String("method", info.Method))
	if info.Attempt != (stream.Attempt{}) {
		all = append(all, slog.String("id", info.Attempt.Stream.String()), slog.Uint64("attempt", info.Attempt.Epoch))
	}
	write(l.log, level, info.Time, text, append(all, attrs...)...)
}

// OnServerOpened implements stream.ServerOpenedObserver.
func (l *Logger) OnServerOpened(info stream.ServerInfo) {
	l.writeServer(slog.LevelDebug, info, "server stream is open")
}

// OnServerRefused implements stream.ServerRefusedObserver.
func (l *Logger) OnServerRefused(info stream.ServerInfo, cause error) {
	if more, ok := l.quiet.allow("refused stream", info.Time); ok {
		l.writeServer(slog.LevelInfo, info, "server stream was refused", errorAttr(cause), slog.Int("more", more))
	}
}

// OnServerEnded implements stream.ServerEndedObserver.
func (l *Logger) OnServerEnded(info stream.ServerInfo, summary stream.ServerSummary) {
	level := slog.LevelInfo
	switch summary.End { //nolint:exhaustive // the others were ended early
	case stream.EndPanicked, stream.EndExited:
		level = slog.LevelWarn
	case stream.EndReturned:
		level = slog.LevelDebug
		switch status.Code(summary.Err) { //nolint:exhaustive // the others are the client's, or say nothing
		case codes.Unknown, codes.Internal, codes.DataLoss:
			level = slog.LevelInfo
		}
	}
	l.writeServer(level, info, "server stream has ended", slog.String("end", summary.End.String()), slog.Duration("lifetime", summary.Duration),
		slog.Uint64("received", summary.Received), slog.Uint64("sent", summary.Sent), errorAttr(summary.Err))
}

// OnServerAbandoned implements stream.ServerAbandonedObserver.
func (l *Logger) OnServerAbandoned(info stream.ServerInfo, late time.Duration, panicked *stream.PanicError) {
	if panicked != nil {
		l.writeServer(slog.LevelWarn, info, "the handler of a stream that was ended has panicked", slog.Duration("late", late), errorAttr(panicked))
		return
	}
	l.writeServer(slog.LevelDebug, info, "the handler of a stream that was ended has returned", slog.Duration("late", late))
}

// OnDenied implements unary.DeniedObserver.
func (l *Logger) OnDenied(info unary.Info, policy string, err error) {
	if more, ok := l.quiet.allow("denied "+policy, time.Now()); ok {
		write(l.log, slog.LevelWarn, time.Now(), "a policy denies calls", slog.String("method", info.Method),
			slog.String("policy", policy), errorAttr(err), slog.Int("more", more))
	}
}

// OnRetry implements unary.RetryObserver.
func (l *Logger) OnRetry(info unary.Info) {
	write(l.log, slog.LevelDebug, time.Now(), "call is tried again", slog.String("method", info.Method), slog.Int("attempt", info.Attempt))
}

// OnHedge implements unary.HedgeObserver.
func (l *Logger) OnHedge(info unary.Info) {
	write(l.log, slog.LevelDebug, time.Now(), "call is hedged", slog.String("method", info.Method), slog.Int("attempt", info.Attempt))
}

// OnWarning implements unary.WarningObserver.
func (l *Logger) OnWarning(text string) { write(l.log, slog.LevelWarn, time.Now(), text) }

// OnRefused implements tap.RefusedObserver.
func (l *Logger) OnRefused(info tap.Info, reason tap.Reason, err error) {
	if more, ok := l.quiet.allow("refused "+reason.String(), info.Time); ok {
		write(l.log, slog.LevelWarn, info.Time, "the server refuses calls", slog.String("method", info.Method),
			slog.String("reason", reason.String()), errorAttr(err), slog.Int("more", more))
	}
}
