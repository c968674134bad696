package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// beMain makes the test binary the program itself.
const beMain = "OVERLOAD_TEST_BE_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(beMain) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// runProgram runs the example as a process.
func runProgram(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	executable, err := os.Executable()
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), executable, args...)
	command.Env = append(os.Environ(), beMain+"=1", "GORACE=atexit_sleep_ms=0") // the race detector waits at the end
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	err = command.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), out.String(), errs.String()
	}
	require.NoError(t, err)
	return 0, out.String(), errs.String()
}

var lastLine = regexp.MustCompile(`\ncapacity=(\d+)/s offered=(\d+)/s bare=(\d+)/s tap=(\d+)/s unary=(\d+)/s\n$`)

// The figures depend on the machine. That a server with a door does more good than one without does not.
func TestRun(t *testing.T) {
	t.Parallel()
	status, stdout, stderr := runProgram(t,
		"-workers", "2", "-work", "50ms", "-rate", "150", "-duration", "2s", "-try", "250ms", "-patience", "600ms")
	require.Zero(t, status, stderr)
	require.Empty(t, stderr)
	found := lastLine.FindStringSubmatch(stdout)
	require.NotNil(t, found, "the last line is the result:\n%s", stdout)
	var n [5]int
	for i := range n {
		var err error
		n[i], err = strconv.Atoi(found[i+1])
		require.NoError(t, err)
	}
	assert.Equal(t, 40, n[0])
	assert.Equal(t, 150, n[1])
	assert.Greater(t, n[3], n[2], "tap\n%s", stdout)
	assert.Greater(t, n[4], n[2], "unary\n%s", stdout)
}

func TestBadFlags(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-nonsense"},
		{"more"},
		{"-workers", "0"},
		{"-rate", "0"},
		{"-rate", "many"},
		{"-work", "0s"},
		{"-duration", "-1s"},
		{"-try", "0s"},
		{"-patience", "0s"},
		{"-retries", "-1"},
		{"-rate", "100001"},
		{"-duration", "2h"},
	} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, 2, run(t.Context(), args, &stdout, &stderr), args)
		assert.Empty(t, stdout.String(), args)
		assert.Contains(t, stderr.String(), "overload: ", args)
	}
	status, _, stderr := runProgram(t, "-workers", "0")
	assert.Equal(t, 2, status)
	assert.Contains(t, stderr, "above zero")
	status, stdout, _ := runProgram(t, "-h")
	assert.Zero(t, status)
	assert.Contains(t, stdout, "-patience")
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var stdout, stderr bytes.Buffer
	assert.Equal(t, 1, run(ctx, []string{"-rate", "100"}, &stdout, &stderr))
	assert.Contains(t, stderr.String(), "overload: bare: ")
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	assert.Zero(t, result{}.quantile(50))
	r := result{}
	for i := 100; i > 0; i-- {
		r.good = append(r.good, time.Duration(i))
	}
	assert.Equal(t, []time.Duration{50, 95, 99}, []time.Duration{r.quantile(50), r.quantile(95), r.quantile(99)})
}
