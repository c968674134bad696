package unary

import "strconv"

// attemptKey is the metadata in which a client tells the server which attempt of a call it is: how many were made before,
// as go-grpc-middleware has it. The first attempt has none. Names that begin with grpc- are grpc's own.
const attemptKey = "x-retry-attempt"

// attemptOf returns how many attempts were made before, as metadata tell it; zero if they do not.
func attemptOf(values []string) int {
	if len(values) == 0 {
		return 0
	}
	n, err := strconv.ParseUint(values[len(values)-1], 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}
