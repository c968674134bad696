package servertest

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// required says that a missing server is a failure: .ci/services sets it, and so does CI.
func required() bool {
	return os.Getenv("STREAMSAFE_SERVICES_REQUIRED") != "" || os.Getenv("CI") == "true"
}

// Address returns the address of a server, which an environment variable has. Without it the test fails in CI, and is
// skipped elsewhere.
func Address(tb testing.TB, variable string) string {
	tb.Helper()
	address := os.Getenv(variable)
	if address == "" {
		missing(tb, variable+` is not set: eval "$(.ci/services start DIR)" starts the servers`)
	}
	return address
}

// Program returns the path of a program, or does as Address does.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(tb, name+" is not installed")
	}
	return path
}

func missing(tb testing.TB, what string) {
	tb.Helper()
	if required() {
		tb.Fatal(what)
	}
	tb.Skip("NOT TESTED: " + what)
}

// Victim stops and starts the PostgreSQL server that tests may stop.
func Victim(tb testing.TB, verb string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	script, dir := Address(tb, "STREAMSAFE_SERVICES"), Address(tb, "STREAMSAFE_SERVICES_DIR")
	if out, err := exec.CommandContext(ctx, script, "victim", dir, verb).CombinedOutput(); err != nil {
		tb.Errorf("%s %s: %v\n%s", script, verb, err, out)
	}
}
