// Package bench measures what a resilient stream costs beside bare gRPC: time and allocations per message, and the time
// from a cut to the next message. RESULTS.md has the figures, the machine, and the commands.
//
// The benchmarks are for benchstat:
//
//	go test -run '^$' -bench . -count 10 ./bench | benchstat -col /client -
//
// A busy machine changes its speed between two of their runs. [github.com/streamsafe/streamsafe/bench/measure] lets the
// clients take turns every few milliseconds, and takes medians of the ratios.
package bench
