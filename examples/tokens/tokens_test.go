package main

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/examples/tokens/tokenspb"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// An answer of 500 tokens has 9,000 places for a fault: these are a sample.
func TestTokensSurvive(t *testing.T) {
	t.Parallel()
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: register,
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			got, err := generate(ctx, tokenspb.NewModelClient(cc), "why?")
			if err != nil {
				return err
			}
			return streamtest.Same(think("why?"), got)
		},
	}, streamtest.WithBudget(100))
}
