package main

import (
	"fmt"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/examples/tokens/tokenspb"
)

// model is a language model of few words.
type model struct {
	tokenspb.UnimplementedModelServer
}

// Generate goes on after the tokens that the client has. A model that would write another answer the next time keeps what it has
// written, under the id of the prompt.
func (model) Generate(prompt *tokenspb.Prompt, s tokenspb.Model_GenerateServer) error {
	answer := think(prompt.GetText())
	for n := prompt.GetReceived(); n < uint64(len(answer)); n++ {
		if err := s.Send(&tokenspb.Token{Number: n + 1, Text: answer[n]}); err != nil {
			return err
		}
	}
	return nil
}

// think returns the tokens of the answer.
func think(prompt string) (answer []string) {
	for n := range 500 {
		answer = append(answer, fmt.Sprintf("%s%d ", prompt[:1+n%len(prompt)], n))
	}
	return answer
}

func register(server *grpc.Server) { tokenspb.RegisterModelServer(server, model{}) }
