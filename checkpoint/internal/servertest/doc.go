// Package servertest has the tests that the stores on servers share, beside storetest: what happens if the server stops,
// a connection breaks, nothing answers, or many owners fight for a key.
package servertest
