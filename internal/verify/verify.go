// Package verify makes a broken internal invariant loud where we test and harmless where users run.
//
// A build with the race detector, or with the streamsafe_verify tag, panics. Every other build does nothing: no
// panic of ours reaches a user.
package verify

import "fmt"

// That reports a bug of this module when ok is false. It panics in verifying builds and does nothing in others.
func That(ok bool, format string, args ...any) {
	if Enabled && !ok {
		panic("streamsafe: broken invariant: " + fmt.Sprintf(format, args...)) //nolint:forbidigo // verifying builds only
	}
}
