package stream

import (
	"fmt"
	"strings"
	"time"
)

// Preset is a bundle of options for one way to use a stream. It is a ClientOption. Options after it override its own:
//
//	stream.Resilient(ctx, client.Watch, callbacks, stream.WatchOptions(), stream.WithIdleTimeout(time.Hour))
//
// Print it to see each option with its value. No preset has WithPoisonLimit: a network that breaks again and again, before anything
// gets through, looks like a message that makes the server fail.
type Preset struct {
	name    string
	entries []presetEntry
}

// presetEntry is one option of a preset, as it is written in code.
type presetEntry struct {
	text string
	opt  ClientOption
}

func (p Preset) applyClient(o *clientOptions) {
	for _, e := range p.entries {
		e.opt.applyClient(o)
	}
}

// String returns the name of the preset, and one line for each option with its value.
func (p Preset) String() string {
	var s strings.Builder
	s.WriteString(p.name)
	for _, e := range p.entries {
		s.WriteString("\n  " + e.text)
	}
	return s.String()
}

// WatchOptions is for a watch: the server sends a snapshot, or resumes at a token, and then changes, without an end. Add
// WithRestart if the server sends a snapshot on each attempt, and Callbacks.Checkpoint with Resume or Request if it has tokens.
//
// WithEndless; first message within 30 s; an outage of any length. There is no idle limit, as a watch may be silent for long: add
// WithIdleTimeout if the server sends heartbeats or bookmarks, at three times their interval.
func WatchOptions() Preset {
	return Preset{"watch", []presetEntry{
		{"WithEndless()", WithEndless()},
		limitEntry("WithFirstMessageTimeout", WithFirstMessageTimeout, 30*time.Second),
		limitEntry("WithOpenTimeout", WithOpenTimeout, 20*time.Second),
		limitEntry("WithStableFor", WithStableFor, 10*time.Second),
	}}
}

// FeedOptions is for a feed of numbered messages without an end, in which none may be missing. It needs Callbacks.Checkpoint with
// Resume, Request or WithResumeMetadata.
//
// WithEndless; WithGapDetection; no message for 60 s is a lost connection, so the server has to send something each 20 s or so, a
// heartbeat say.
func FeedOptions() Preset {
	return Preset{"feed", []presetEntry{
		{"WithEndless()", WithEndless()},
		{"WithGapDetection()", WithGapDetection()},
		limitEntry("WithIdleTimeout", WithIdleTimeout, time.Minute),
		limitEntry("WithOpenTimeout", WithOpenTimeout, 20*time.Second),
		limitEntry("WithStableFor", WithStableFor, 10*time.Second),
	}}
}

// LinkOptions is for a link that both sides send on, and on which no message of the client may be lost. It needs Callbacks.Acked.
//
// WithReplay of up to 4,096 messages or 8 MiB, after which Send waits; no acknowledgement for 15 s, or a message that the transport
// does not take for 15 s, is a lost connection.
func LinkOptions() Preset {
	return Preset{"link", []presetEntry{
		replayEntry(ReplayLimits{Messages: 4096, Bytes: 8 << 20}),
		limitEntry("WithAckTimeout", WithAckTimeout, 15*time.Second),
		limitEntry("WithSendTimeout", WithSendTimeout, 15*time.Second),
		limitEntry("WithOpenTimeout", WithOpenTimeout, 20*time.Second),
		limitEntry("WithStableFor", WithStableFor, 10*time.Second),
	}}
}

// UploadOptions is for an upload over a method that acknowledges what the server has stored. It needs Callbacks.Acked. For more
// data than fits into memory, use [ClientStream.SendFrom] in place of WithReplay.
//
// WithReplay of up to 64 MiB, with as many messages as fit; no acknowledgement for 60 s, as the server may write to a slow disk; a message
// that the transport does not take for 30 s; an outage of 10 min ends the upload, and Unacked has what is left.
func UploadOptions() Preset {
	return Preset{"upload", []presetEntry{
		replayEntry(ReplayLimits{Messages: -1, Bytes: 64 << 20}),
		limitEntry("WithAckTimeout", WithAckTimeout, time.Minute),
		limitEntry("WithSendTimeout", WithSendTimeout, 30*time.Second),
		limitEntry("WithOpenTimeout", WithOpenTimeout, 20*time.Second),
		limitEntry("WithMaxOutage", WithMaxOutage, 10*time.Minute),
		limitEntry("WithStableFor", WithStableFor, 10*time.Second),
	}}
}

// Options composes options into one, which applies them in their order. A nil option is an error, as it is without Options.
func Options(opts ...ClientOption) ClientOption {
	return clientOption(func(o *clientOptions) {
		for _, opt := range opts {
			if opt == nil {
				o.nilOption = true
				continue
			}
			opt.applyClient(o)
		}
	})
}

func limitEntry[O ClientOption](name string, with func(time.Duration) O, d time.Duration) presetEntry {
	return presetEntry{fmt.Sprintf("%s(%v)", name, d), with(d)}
}

func replayEntry(l ReplayLimits) presetEntry {
	return presetEntry{fmt.Sprintf("WithReplay(ReplayLimits{Messages: %d, Bytes: %d})", l.Messages, l.Bytes), WithReplay(l)}
}
