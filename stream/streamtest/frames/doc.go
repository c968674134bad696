// Package frames checks that the faults of streamtest are what they say, with the HTTP/2 framer that gRPC itself uses. It has a module of
// its own, because the library does not depend on that framer.
package frames
