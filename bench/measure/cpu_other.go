//go:build !linux

package main

import (
	"runtime"
	"time"
)

// cpuTime is not known here: the ratios of processor time are NaN.
func cpuTime() time.Duration { return 0 }

func cpuModel() string { return runtime.GOOS + "/" + runtime.GOARCH }
