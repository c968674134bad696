package streamtest

import (
	"fmt"
	"strings"
	"time"
)

// Report is what a network has done. Print it when a test fails.
type Report struct {
	// Connections is the number of connections that were joined to a server.
	Connections int
	// Refused is the number of connections that were refused, those that found no server included.
	Refused int
	// Live is the number of connections that are neither cut nor closed. One that is stalled or in a black hole is live.
	Live int
	// Cuts are the faults that have happened, in their order.
	Cuts []Cut
	// ToServer and ToClient are what was forwarded.
	ToServer, ToClient Traffic
	// Begun is when the network was made.
	Begun time.Time
}

// Traffic is what went in one direction.
type Traffic struct {
	// Messages is the number of whole gRPC messages, over all streams and connections.
	Messages int
	// Bytes is the number of bytes, frames of all kinds included.
	Bytes int64
}

// String returns a line of totals, and a line for each fault with its time.
func (r Report) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "connections %d, refused %d, live %d; to server %d messages, %d bytes; to client %d messages, %d bytes; faults %d",
		r.Connections, r.Refused, r.Live, r.ToServer.Messages, r.ToServer.Bytes, r.ToClient.Messages, r.ToClient.Bytes, len(r.Cuts))
	for _, c := range r.Cuts {
		fmt.Fprintf(&s, "\n%v: %v on connection %d", c.At.Sub(r.Begun).Round(time.Microsecond), c, c.Connection)
	}
	return s.String()
}

// String describes the fault in a few words.
func (c Cut) String() string {
	if c.Message == 0 {
		return c.Kind.String()
	}
	return fmt.Sprintf("%v %v %s %d", c.Kind, whereText(c.Where), messageText(c.Direction), c.Message)
}

// whereText is a place as in "in response 3".
func whereText(w Where) string {
	if w == Inside {
		return "in"
	}
	return w.String()
}

func messageText(d Direction) string {
	if d == ToServer {
		return "request"
	}
	return "response"
}
