package main

import (
	"math"
	"slices"
	"time"
)

// never is longer than any recovery.
const never time.Duration = math.MaxInt64

// recoveries returns, for each fault, how far a watcher fell behind: the longest time from a mark that etcd has confirmed,
// between this fault and the next one, until the watcher had seen it or something newer in every watch. While there is no
// majority etcd confirms nothing, and nobody falls behind.
func recoveries(j *journal, m *marks, faults []time.Time, end time.Time) []time.Duration {
	all := make([]time.Duration, 0, len(faults))
	for i, from := range faults {
		to := end
		if i+1 < len(faults) {
			to = faults[i+1]
		}
		behind := time.Duration(0)
		for _, mark := range m.between(from, to) {
			if seen, ok := j.reached(m.specs, mark.revision); ok {
				behind = max(behind, seen.Sub(mark.at))
			} else {
				behind = never
			}
		}
		all = append(all, behind)
	}
	return all
}

// touched is how far behind a watcher has to be for a fault to have touched it: it is behind by some milliseconds all the
// time.
const touched = 25 * time.Millisecond

// thatTouched returns the recoveries from faults that touched the watcher: one of one member may leave it alone.
func thatTouched(all []time.Duration) []time.Duration {
	return slices.DeleteFunc(slices.Clone(all), func(d time.Duration) bool { return d < touched })
}

// lasted describes how long something took.
func lasted(d time.Duration) string {
	if d == never {
		return "never"
	}
	return d.Round(time.Millisecond).String()
}

// median returns the middle of some durations, the longer one where there are two. Zero: there are none.
func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(all))[len(all)/2]
}
