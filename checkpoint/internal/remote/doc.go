// Package remote is what the stores on servers have in common: the rules of a [checkpoint.Store] over a server that can do
// one thing, replace a record if it is still the one that was read.
//
// The server decides (invariant 24): each write names the record that it replaces, and the server refuses it if another
// one is there. So neither a second owner nor a request that was on its way for a long time can overwrite what came
// later. As a Store remembers the record that it has written, a commit is one round trip.
//
// Each write carries a random number, and so does each owner. If the answer to a write is lost, the next read tells by
// that number whether it was done (invariant 54). If a server that lost its last writes has given the same epoch to two
// owners, they differ by theirs.
package remote
