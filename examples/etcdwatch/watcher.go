package main

import "context"

// spec is one watch of the several that every watcher keeps.
type spec struct {
	id       int64 // from 1
	name     string
	key, end string // the range [key, end), as etcd has it
}

// contains reports whether a key is in the range.
func (s spec) contains(key string) bool { return s.key <= key && key < s.end }

// watcher follows the specs until ctx is done, and notes what it sees in j. The endpoints are addresses, "host:port", of the
// fault proxies before the members. A watcher that returns before ctx is done has given up.
type watcher func(ctx context.Context, endpoints []string, specs []spec, j *journal) error

// contestant is a watcher that takes part.
type contestant struct {
	name  string
	run   watcher
	lines int // of code that is there for resuming
}

// watches are what every watcher keeps. The third overlaps with the first two, and some keys are in none.
func watches() []spec {
	return []spec{
		{id: 1, name: "orders", key: "/orders/", end: "/orders0"},
		{id: 2, name: "stock", key: "/stock/", end: "/stock0"},
		{id: 3, name: "both", key: "/orders/5", end: "/stock/5"},
	}
}
