// Package storetest checks that a [checkpoint.Store] keeps its contract. Every store of this module passes it, and
// every other store should.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) checkpoint.Store {
//			return mystore.New(emptyDatabase(t)) // closed by t.Cleanup
//		})
//	}
//
// Run has a case for each rule of the contract; RunDurable adds what a store promises whose records outlive it. A
// store that breaks one rule fails the cases named after it, and the message says what was expected and why.
//
// Not checked: what happens when the machine stops, how long a call takes, and what a store does while its server
// cannot be reached.
package storetest
