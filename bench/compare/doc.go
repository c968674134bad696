// Package compare shows, on failsafe-go's own gRPC package (v0.9.8), what streamsafe was written to do better. Each test
// runs one scenario against both: the rule is broken by theirs and held by ours, in the same run. A test that fails
// because theirs holds the rule says that a newer version has learned it.
//
// BenchmarkCommit measures a commit to the file store beside bbolt, which a user would take instead.
//
// It is a module of its own, so that the root module need not depend on what it is compared with.
package compare
