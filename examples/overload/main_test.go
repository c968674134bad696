package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
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
	for _, test := range []struct{ args, want string }{
		{"-nonsense", "flag provided but not defined: -nonsense"},
		{"more", `unexpected argument "more"`},
		{"-rate many", `invalid value "many" for flag -rate: parse error`},
		{"-workers 0", "-workers 0: it has to be above zero"},
		{"-rate 0", "-rate 0: it has to be above zero"},
		{"-work 0", "-work 0s: it has to be above zero"},
		{"-duration 499ms", "-duration 499ms: it has to be at least 500ms"},
		{"-try 0s", "-try 0s: it has to be above zero"},
		{"-patience -1s", "-patience -1s: it has to be above zero"},
		{"-retries -1", "-retries -1: it has to be zero or more"},
		{"-rate 100001", "-rate 100001: it has to be at most 100000"},
		{"-duration 2h", "-duration 2h0m0s: it has to be at most 1h"},
	} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, 2, run(t.Context(), strings.Fields(test.args), &stdout, &stderr), test.args)
		assert.Empty(t, stdout.String(), test.args)
		assert.Equal(t, "overload: "+test.want+"\n", stderr.String())
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
	assert.Equal(t, "overload: interrupted\n", stderr.String())
}

// A result that nobody gets to see is no success.
func TestResultIsNotWritten(t *testing.T) {
	t.Parallel()
	reader, writer := io.Pipe()
	require.NoError(t, reader.CloseWithError(errors.New("the disk is full")))
	var stderr bytes.Buffer
	assert.Equal(t, 1, run(t.Context(), []string{"-rate", "10", "-duration", "500ms"}, writer, &stderr))
	assert.Equal(t, "overload: the disk is full\n", stderr.String())
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
