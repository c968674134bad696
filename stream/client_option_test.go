package stream_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/cachepolicy"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// What is wrong with the options is said in one line, and is never a panic.
func TestWrongOptionsAreSaidInOneLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{})
		_, err := w.open(t.Context(), nil)
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "an option is nil")
		_, err = w.open(t.Context(), stream.WithStore(new(checkpoint.Memory), "key", stream.CommitEvery(1), nil))
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "an option of an option is nil")
		require.ErrorContains(t, err, "WithStore")
		_, err = w.dial(t.Context(), callbacks{}, stream.WithGapDetection(), stream.WithManualCommit())
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "two things")
		require.EqualError(t, err, "stream: open: wrong options (attempts: 0): WithGapDetection needs Callbacks.Checkpoint; "+
			"WithManualCommit needs WithStore")
		s := w.mustOpen()
		wantEnd(t, s.Commit(t.Context()), stream.ReasonOptions, codes.InvalidArgument, "Commit without a store")
	})
}

// A nil option is an error of the constructor, and not a panic.
func TestNilStoreOption(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, err := newWorld(t, &feed{}).open(t.Context(), stream.WithStore(new(checkpoint.Memory), "key", nil))
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "an option of WithStore is nil")
	})
}

// Options that contradict each other, or the callbacks, are refused with both names, and nothing is opened.
func TestOptionsThatContradict(t *testing.T) {
	t.Parallel()
	replay := stream.WithReplay(stream.ReplayLimits{})
	full := positions()
	full.Acked = func(*response) (uint64, bool) { return 0, false }
	replaying := full
	replaying.Replay = func(m *request, _ uint64) *request { return m }
	hold := stream.HoldUntilCheckpoint(1, stream.OverflowFail)
	store := stream.WithStore(new(checkpoint.Memory), "key")
	tests := map[string]struct {
		cb    callbacks
		opts  []stream.ClientOption
		names []string
	}{
		"replay, at most once":    {full, []stream.ClientOption{replay, stream.WithAtMostOnceSends()}, []string{"WithReplay", "WithAtMostOnceSends"}},
		"replay, no Acked":        {positions(), []stream.ClientOption{replay}, []string{"WithReplay", "Callbacks.Acked"}},
		"Replay, no replay":       {replaying, nil, []string{"Callbacks.Replay", "WithReplay"}},
		"hold, no Checkpoint":     {callbacks{}, []stream.ClientOption{hold}, []string{"HoldUntilCheckpoint", "Callbacks.Checkpoint"}},
		"hold nothing":            {full, []stream.ClientOption{stream.HoldUntilCheckpoint(0, stream.OverflowFail)}, []string{"HoldUntilCheckpoint", "limit"}},
		"unknown overflow":        {full, []stream.ClientOption{stream.HoldUntilCheckpoint(1, 9)}, []string{"Overflow"}},
		"gap detection":           {callbacks{}, []stream.ClientOption{stream.WithGapDetection()}, []string{"WithGapDetection", "Callbacks.Checkpoint"}},
		"store, no Checkpoint":    {callbacks{}, []stream.ClientOption{store}, []string{"WithStore", "Callbacks.Checkpoint"}},
		"store that is nil":       {full, []stream.ClientOption{stream.WithStore(nil, "key")}, []string{"WithStore"}},
		"manual, no store":        {full, []stream.ClientOption{stream.WithManualCommit()}, []string{"WithManualCommit", "WithStore"}},
		"replay without a limit":  {full, []stream.ClientOption{stream.WithReplay(stream.ReplayLimits{Messages: -1, Bytes: -1})}, []string{"ReplayLimits"}},
		"unknown content subtype": {full, []stream.ClientOption{replay, stream.WithCallOptions(grpc.CallContentSubtype("smoke"))}, []string{"content subtype"}},
		"observer of nothing":     {full, []stream.ClientOption{stream.WithObserver(42)}, []string{"int", "observer"}},
		"hedge at stream scope":   {full, []stream.ClientOption{stream.WithStreamPolicies(hedgepolicy.NewWithDelay[any](1))}, []string{"hedge", "stream"}},
		"no stream policy":        {full, []stream.ClientOption{stream.WithStreamPolicies()}, []string{"stream"}},
		"no open policy":          {full, []stream.ClientOption{stream.WithOpenPolicies()}, []string{"open"}},
		"nil policy":              {full, []stream.ClientOption{stream.WithStreamPolicies(nil)}, []string{"nil", "stream"}},
		"nil executor":            {full, []stream.ClientOption{stream.WithOpenExecutor(nil)}, []string{"open"}},
		"two at once":             {callbacks{}, []stream.ClientOption{hold, replay}, []string{"HoldUntilCheckpoint", "WithReplay"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := func(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[request, response], error) {
				t.Error("something was opened")
				return nil, errGone
			}
			s, err := stream.Resilient(t.Context(), open, test.cb, test.opts...)
			require.Nil(t, s)
			wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, name)
			for _, part := range test.names {
				require.ErrorContains(t, err, part)
			}
		})
	}
	t.Run("open is nil", func(t *testing.T) {
		t.Parallel()
		var open func(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[request, response], error)
		_, err := stream.Resilient(t.Context(), open, callbacks{})
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "open is nil")
	})
}

// noCache is a cache that has nothing.
type noCache struct{}

func (noCache) Get(string) (any, bool) { return nil, false }

func (noCache) Set(string, any) {}

func TestPoliciesThatAreOfNoUse(t *testing.T) {
	t.Parallel()
	cache := cachepolicy.NewBuilder[any](noCache{}).WithKey("k").Build()
	for name, opt := range map[string]stream.ClientOption{
		"cache at stream scope": stream.WithStreamPolicies(cache),
		"cache at open scope":   stream.WithOpenPolicies(cache),
		"hedge at stream scope": stream.WithStreamPolicies(hedgepolicy.NewWithDelay[any](time.Second)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays())
				_, err := w.dial(t.Context(), positions(), opt)
				wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, name)
				require.Zero(t, handled(w))
			})
		})
	}
}
