package stream

import "time"

// WithGrace makes the grace time of planned rotations shorter.
func WithGrace(d time.Duration) ClientOption {
	return clientOption(func(o *clientOptions) { o.grace = d })
}
