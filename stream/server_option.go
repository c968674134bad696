package stream

import "time"

// serverOptions is what the options of one server come to.
type serverOptions struct {
	observers []Observer
	idle      time.Duration
	age       maxAge
	send      time.Duration
}
