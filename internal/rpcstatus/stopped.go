package rpcstatus

import "fmt"

// StoppedError is a failure after which no more was tried, since a policy forbade it: a spent budget, a limiter, an open breaker.
//
// It stands for the failure: [Of] returns its status, and [IsDenial] looks at the failure only (invariant 38). errors.Is and
// errors.As find both.
type StoppedError struct {
	Failure error // the last real failure
	By      error // what stopped the tries
}

// Error tells the failure, and what stopped the tries.
func (s *StoppedError) Error() string {
	return fmt.Sprintf("%v (not tried again: %v)", s.Failure, s.By)
}

// Unwrap returns both errors.
func (s *StoppedError) Unwrap() []error { return []error{s.Failure, s.By} }
