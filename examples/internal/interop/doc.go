// Package interop has no code but tests: gRPC's own interoperability service, and a stock client with the interceptors of stream and
// unary, through a network that breaks. It is a module of its own, because that service needs more modules than the root has.
package interop
