// Package streamtest breaks gRPC streams on purpose, so that you can prove that yours survive. It works for any gRPC stream, whether
// package stream wraps it or not.
//
//	func TestChatSurvives(t *testing.T) {
//		var server *chatServer
//		streamtest.CutEverywhere(t, streamtest.Scenario{
//			Serve: func(s *grpc.Server) {
//				server = newChatServer() // new state for each run
//				chatpb.RegisterChatServer(s, server)
//			},
//			Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
//				replies, err := talk(ctx, chatpb.NewChatClient(cc), "one", "two", "three")
//				if err != nil {
//					return err
//				}
//				return errors.Join(
//					streamtest.Same([]string{"one", "two", "three"}, server.got),
//					streamtest.Same([]string{"ONE", "TWO", "THREE"}, replies))
//			},
//		})
//	}
//
// [CutEverywhere] cuts this chat before, inside and after each message, each way, in each way in which a network breaks, and again
// while the client resumes. A failure says where, and how to repeat it:
//
//	cut (RST) after response 2 of 3, again in replay (FIN) in request 1 of connection 2: lost "three"
//	repeat it: go test -run '^TestChatSurvives$/^RST_after_response_2$/^again_FIN_in_request_1_of_connection_2$' .
//
// [Journal] and [Same] compare what both ends sent and got. For tests of your own design there are networks with faults by message, by
// bytes, by time and by hand: [Proxy] over real sockets, and [Network] in memory, for testing/synctest. docs/testing.md begins from
// nothing.
//
// # What a cut destroys
//
// A cut loses what the network still holds, and keeps what it has forwarded: that is in the peer's socket. Whether the application gets
// to read it is another matter:
//
//   - A gRPC client hands over each message that has arrived before it reports the loss of the connection.
//   - A gRPC server cancels the handler's context at once, and the handler may then miss messages that have arrived, unless there
//     is a Pause before the cut.
//   - After an RST an operating system may drop what the application has not read. Linux keeps it, and so does Network.
//
// # Places
//
// Messages are numbered from 1, for each connection and each direction, in the order in which they begin; all streams of a connection
// count together. A message may lie in several HTTP/2 frames, and a frame may hold several messages: the network sends each message on
// in frames of its own, so "after message 3" means that the peer can read that one and nothing behind it. The two directions do not wait
// for each other. A cut after request 3 may come before or after response 2, and if that makes a difference to your stream, the places
// of the other direction find it.
//
// After a message, CutEverywhere waits a moment in which nothing passes either way: the peer has taken the message in, and nobody has
// heard of it. See [Fault].
//
// # Goroutines
//
// A network has five goroutines for each connection; [Proxy] has one more for each connection that is being opened, and one that
// accepts. They end with Close. CutEverywhere has returned when all of its goroutines have, unless a run did not end: then it says so.
package streamtest
