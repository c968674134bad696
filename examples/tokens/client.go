// Command tokens receives the answer of a language model token by token through a network that keeps breaking. After each break
// the next request asks for the tokens that are missing, so no token is generated, or paid for, twice.
//
// The last line compares what the application got with the whole answer:
//
//	tokens=N cuts=C lost=0 duplicated=0 reordered=0
package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/examples/internal/stage"
	"github.com/streamsafe/streamsafe/examples/tokens/tokenspb"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

func main() { stage.Main(run, register, streamtest.ToClient, 40) }

// generate returns the tokens of the answer.
func generate(ctx context.Context, client tokenspb.ModelClient, prompt string) (got []string, err error) {
	s, err := stream.ResilientServerStreaming(ctx, client.Generate,
		func(from checkpoint.Position) (*tokenspb.Prompt, error) {
			return &tokenspb.Prompt{Id: "1", Text: prompt, Received: from.Seq}, nil
		},
		stream.Callbacks[tokenspb.Prompt, tokenspb.Token]{
			Checkpoint: func(m *tokenspb.Token) (checkpoint.Position, bool) {
				return checkpoint.Position{Seq: m.GetNumber()}, true
			},
		}, stream.WithGapDetection(), stream.WithIdleTimeout(10*time.Second))
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = append(got, m.GetText())
	}
}

func run(ctx context.Context, s *stage.Stage) error {
	const prompt = "why do streams break?"
	got, err := generate(ctx, tokenspb.NewModelClient(s), prompt)
	if err != nil {
		return err
	}
	return stage.Check(s, "tokens", think(prompt), got)
}
