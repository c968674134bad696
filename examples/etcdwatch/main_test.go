package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// What makes the test binary the program itself, or a program whose etcd gives up, with files in a directory.
const (
	beMain = "ETCDWATCH_TEST_BE_MAIN"
	giveUp = "ETCDWATCH_TEST_GIVE_UP"
)

func TestMain(m *testing.M) {
	if os.Getenv(beMain) != "" {
		main()
		return
	}
	if dir := os.Getenv(giveUp); dir != "" {
		quietLogger(dir).Fatal("cannot write", zap.String("file", "db"), zap.Error(errors.New("disk full")))
	}
	os.Exit(m.Run())
}

// program returns the example as a process that was not started yet, whose temporary files go to a directory of its own.
func program(t *testing.T, args ...string) (command *exec.Cmd, temp string) {
	t.Helper()
	executable, err := os.Executable()
	require.NoError(t, err)
	temp = t.TempDir()
	command = exec.CommandContext(t.Context(), executable, args...)
	command.Env = append(os.Environ(), beMain+"=1", "GORACE=atexit_sleep_ms=0", "TMPDIR="+temp)
	return command, temp
}

func statusOf(t *testing.T, err error) int {
	t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	require.NoError(t, err)
	return 0
}

func TestCannotBegin(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"unknown flag": {[]string{"-nonsense"}, "flag provided but not defined: -nonsense"},
		"bad number":   {[]string{"-faults", "many"}, `invalid value "many"`},
		"negative":     {[]string{"-faults", "-1"}, "-faults -1: it has to be from 0 to 1000"},
		"too many":     {[]string{"-faults", "1001"}, "-faults 1001: it has to be from 0 to 1000"},
		"bad seed":     {[]string{"-seed", "-1"}, `invalid value "-1"`},
		"argument":     {[]string{"now"}, `unexpected argument "now"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command, temp := program(t, test.args...)
			var stdout, stderr bytes.Buffer
			command.Stdout, command.Stderr = &stdout, &stderr
			assert.Equal(t, 2, statusOf(t, command.Run()))
			assert.Empty(t, stdout.String())
			assert.Contains(t, stderr.String(), test.want)
			assert.Equal(t, 1, strings.Count(stderr.String(), "\n"), "one line: %s", stderr.String())
			left, err := os.ReadDir(temp)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

// Where etcd gives up, it ends the process: on a full disk, say. One line tells, and no files stay behind.
func TestEtcdGivesUp(t *testing.T) {
	t.Parallel()
	command, temp := program(t)
	dir := filepath.Join(temp, "files")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "member0"), 0o700))
	command.Env = append(os.Environ(), giveUp+"="+dir)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	assert.Equal(t, 1, statusOf(t, command.Run()))
	assert.Equal(t, "etcdwatch: etcd gives up: cannot write: disk full\n", stderr.String())
	assert.NoDirExists(t, dir)
}

// A reader that goes away, head say, ends the program in order.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	command, temp := program(t, "-faults", "0")
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, reader.Close())
	var stderr bytes.Buffer
	command.Stdout, command.Stderr = writer, &stderr
	assert.Equal(t, 1, statusOf(t, command.Run()))
	require.NoError(t, writer.Close())
	assert.Contains(t, stderr.String(), "broken pipe")
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestHelp(t *testing.T) {
	t.Parallel()
	command, _ := program(t, "-h")
	help, err := command.Output()
	require.NoError(t, err)
	assert.Contains(t, string(help), "-faults")
}

// Whoever ends the program finds no files left behind.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	command, temp := program(t, "-faults", "100")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdout, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	reader := bufio.NewReader(stdout)
	_, err = reader.ReadString('\n') // the first fault
	require.NoError(t, err)
	require.NoError(t, command.Process.Signal(os.Interrupt))
	assert.Equal(t, 1, statusOf(t, command.Wait()))
	assert.Equal(t, "etcdwatch: interrupted\n", stderr.String())
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// The example itself, with each kind of fault once or less.
func TestRun(t *testing.T) {
	t.Parallel()
	command, temp := program(t, "-seed", "4", "-faults", "5")
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	assert.Equal(t, 0, statusOf(t, command.Run()), "%s%s", &stdout, &stderr)
	assert.Empty(t, stderr.String())
	assert.Regexp(t, `\nevents=[1-9]\d* members_stopped=\d+ cuts=\d+ lost=0 duplicated=0 reordered=0\n$`, stdout.String())
	t.Log("\n" + stdout.String())
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	assert.Empty(t, left)
}
