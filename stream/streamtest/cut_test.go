package streamtest_test

import (
	"testing"

	"github.com/streamsafe/streamsafe/stream/streamtest"
)

func TestCorrectChat(t *testing.T) {
	t.Parallel()
	streamtest.CutEverywhere(t, chat(correct))
}
