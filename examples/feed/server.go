package main

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/examples/feed/feedpb"
)

// events is how many the log has in the end: a new one each millisecond.
const events = 1000

type server struct {
	feedpb.UnimplementedFeedServer

	log   string
	began time.Time
}

func register(s *grpc.Server) { feedpb.RegisterFeedServer(s, &server{log: "log 1", began: time.Now()}) }

// Read sends the events after the client's position. It has no state of the client: the position is in the request.
func (s *server) Read(from *feedpb.ReadRequest, out grpc.ServerStreamingServer[feedpb.Event]) error {
	if from.GetLog() != "" && from.GetLog() != s.log {
		return status.Error(codes.OutOfRange, "the log was replaced")
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for next := from.GetAfter() + 1; ; {
		event := &feedpb.Event{Log: s.log} // a heartbeat
		if there := min(events, 1+uint64(time.Since(s.began)/time.Millisecond)); next <= there {
			event.Number, event.Text = next, fmt.Sprintf("event %d", next)
			next++
		}
		if err := out.Send(event); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-out.Context().Done():
			return status.FromContextError(out.Context().Err()).Err()
		}
	}
}
