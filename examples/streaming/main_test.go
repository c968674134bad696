package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// beMain makes the test binary the program itself.
const beMain = "STREAMING_TEST_BE_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(beMain) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// program returns the example as a process that was not started yet.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	executable, err := os.Executable()
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), executable, args...)
	command.Env = append(os.Environ(), beMain+"=1", "GORACE=atexit_sleep_ms=0") // the race detector waits at the end
	return command
}

// outcome is what a run printed and ended with.
type outcome struct {
	status         int
	stdout, stderr string
}

func runProgram(t *testing.T, args ...string) outcome {
	t.Helper()
	command := program(t, args...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	return outcome{statusOf(t, command.Run()), stdout.String(), stderr.String()}
}

func statusOf(t *testing.T, err error) int {
	t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	require.NoError(t, err)
	return 0
}

// result is the last line of a run.
type result struct{ lines, cuts, resumes, lost, duplicated, reordered int }

var lastLine = regexp.MustCompile(
	`(?:^|\n)lines=(\d+) cuts=(\d+) resumes=(\d+) lost=(\d+) duplicated=(\d+) reordered=(\d+) elapsed=[0-9.]+m?s\n$`)

func (o outcome) result(t *testing.T) result {
	t.Helper()
	found := lastLine.FindStringSubmatch(o.stdout)
	require.NotNil(t, found, "the last line is the result:\n%s%s", o.stdout, o.stderr)
	var numbers [6]int
	for i := range numbers {
		var err error
		numbers[i], err = strconv.Atoi(found[i+1])
		require.NoError(t, err)
	}
	return result{numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]}
}

// inputOf writes a text of so many lines, each with the word and a few more.
func inputOf(t *testing.T, count int, word string) string {
	t.Helper()
	var text strings.Builder
	for i := range count {
		fmt.Fprintf(&text, "%s%s\n", strings.Repeat(word+" ", i%7), strings.Repeat("x", i%50))
	}
	path := filepath.Join(t.TempDir(), "input")
	require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o600))
	return path
}

func TestJob(t *testing.T) {
	t.Parallel()
	for seed := 1; seed <= 3; seed++ {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed %d, restart %v", seed, restart), func(t *testing.T) {
				t.Parallel()
				got := runProgram(t, "-input", inputOf(t, 1000, "word"), "-cuts", "6", "-seed", strconv.Itoa(seed),
					fmt.Sprintf("-restart=%v", restart))
				require.Zero(t, got.status, got.stderr)
				assert.Empty(t, got.stderr)
				r := got.result(t)
				assert.Positive(t, r.resumes)
				r.resumes = 0
				assert.Equal(t, result{lines: 1000, cuts: 6}, r)
				assert.Equal(t, restart, strings.Contains(got.stdout, "was killed"))
			})
		}
	}
}

// However short the input is, every cut happens, and none is too many.
func TestShortInputs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text        string
		lines, cuts int
	}{
		{"no line end", 1, 0},
		{"\n", 1, 3},
		{"one\r\n\r\ntwo words\n", 3, 8},
		{"not UTF-8 \xff\xfe\x00\n" + strings.Repeat("long ", maxLine/5) + "\nlast", 3, 2},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d lines, %d cuts, restart %v", test.lines, test.cuts, restart), func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "input")
				require.NoError(t, os.WriteFile(path, []byte(test.text), 0o600))
				got := runProgram(t, "-input", path, "-cuts", strconv.Itoa(test.cuts), fmt.Sprintf("-restart=%v", restart))
				require.Zero(t, got.status, got.stderr)
				r := got.result(t)
				r.resumes = 0
				assert.Equal(t, result{lines: test.lines, cuts: test.cuts}, r)
			})
		}
	}
}

// What is wrong shows in the last line and the status: the input changes while the client is dead, so the answers of
// the first half are not those of the text that they are compared with.
func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	for range 20 {
		got := changedInput(t)
		if got.status == 0 {
			continue // the next client was faster than this test, and has opened the input before
		}
		assert.Equal(t, 1, got.status)
		assert.Contains(t, got.stderr, "of the journal is wrong")
		r := got.result(t)
		assert.Positive(t, r.lost)
		return
	}
	assert.Fail(t, "the input has changed 20 times, and no answer was wrong")
}

// changedInput runs the program, and gives it another input when its first client was killed.
func changedInput(t *testing.T) outcome {
	t.Helper()
	input, other := inputOf(t, 1000, "before"), inputOf(t, 1000, "after it")
	command := program(t, "-input", input, "-cuts", "1", "-restart")
	var stdout, stderr strings.Builder
	command.Stderr = &stderr
	pipe, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	reader := bufio.NewReader(io.TeeReader(pipe, &stdout))
	for line := ""; !strings.Contains(line, "was killed"); {
		line, err = reader.ReadString('\n')
		require.NoError(t, err)
	}
	require.NoError(t, os.Rename(other, input))
	_, err = io.Copy(io.Discard, reader)
	require.NoError(t, err)
	return outcome{statusOf(t, command.Wait()), stdout.String(), stderr.String()}
}

// What is no journal is not overwritten, the input least of all.
func TestNothingElseIsOverwritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	journal, link := filepath.Join(dir, "w.answers"), filepath.Join(dir, "link.answers")
	entry := fmt.Sprintf(entryFormat, 1, make([]byte, 32), 0)
	for _, text := range []string{entry, "a note\n", strings.Repeat("a note\n", 100), entry[1:] + entry[1:]} {
		require.NoError(t, os.WriteFile(journal, []byte(text), 0o600))
		_ = os.Remove(link) // there is none the first time
		require.NoError(t, os.Symlink(journal, link))
		for _, store := range []string{"w", "link"} {
			got := runProgram(t, "-input", journal, "-store", filepath.Join(dir, store), "-cuts", "2")
			assert.Equal(t, 2, got.status)
			assert.Equal(t, fmt.Sprintf("streaming: store: the answers would overwrite the input %q\n", journal), got.stderr)
		}
		if text != entry {
			got := runProgram(t, "-input", inputOf(t, 2, "word"), "-store", filepath.Join(dir, "w"), "-cuts", "0")
			assert.Equal(t, 2, got.status)
			assert.Contains(t, got.stderr, "holds no answers of an earlier job")
		}
		after, err := os.ReadFile(journal)
		require.NoError(t, err)
		assert.Equal(t, text, string(after))
	}
	assert.NoDirExists(t, filepath.Join(dir, "w"))
}

// The answers are beside the store, also where it is the working directory.
func TestStoreInWorkingDirectory(t *testing.T) {
	t.Parallel()
	command := program(t, "-input", inputOf(t, 2, "word"), "-store", ".", "-cuts", "0", "-restart")
	command.Dir = filepath.Join(t.TempDir(), "here")
	require.NoError(t, os.Mkdir(command.Dir, 0o700))
	require.NoError(t, command.Run())
	assert.FileExists(t, command.Dir+".answers")
}

// A job leaves its answers beside the store, and a second one with the same store begins anew.
func TestStore(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "store")
	for _, lines := range []int{30, 20} {
		input := inputOf(t, lines, "word")
		got := runProgram(t, "-input", input, "-cuts", "1", "-store", store)
		require.Zero(t, got.status, got.stderr)
		want, err := compute(input)
		require.NoError(t, err)
		answers, err := os.ReadFile(store + ".answers")
		require.NoError(t, err)
		assert.Equal(t, strings.Join(want, ""), string(answers))
	}
}

func TestCannotBegin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		return path
	}
	good := write("good", []byte("a line\n"))
	used := filepath.Join(dir, "used")
	inTheWay := filepath.Join(dir, "journal")
	require.NoError(t, os.Mkdir(inTheWay+".answers", 0o700))
	store, err := checkpoint.OpenFile(used)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"unknown flag":     {[]string{"-nonsense"}, "flag provided but not defined: -nonsense"},
		"bad number":       {[]string{"-cuts", "many"}, `invalid value "many"`},
		"negative number":  {[]string{"-cuts", "-1"}, "-cuts -1 is less than zero"},
		"large number":     {[]string{"-cuts", "1001"}, "-cuts 1001: at most 1000"},
		"root":             {[]string{"-input", good, "-store", "/"}, "cannot go beside /"},
		"journal is a dir": {[]string{"-input", good, "-store", inTheWay}, "is a directory"},
		"argument":         {[]string{good}, "unexpected argument"},
		"missing input":    {[]string{"-input", filepath.Join(dir, "none")}, "no such file"},
		"empty input":      {[]string{"-input", write("empty", nil)}, "is empty"},
		"directory":        {[]string{"-input", dir}, "is not a regular file"},
		"long line":        {[]string{"-input", write("long", append([]byte("a\n"), make([]byte, maxLine+1)...))}, "line 2 is longer"},
		"longer line":      {[]string{"-input", write("longer", make([]byte, maxLine+9))}, "line 1 is longer"},
		"store in use":     {[]string{"-input", good, "-store", used}, "directory in use"},
		"in use, restart":  {[]string{"-input", good, "-store", used, "-restart"}, "directory in use"},
		"store is no dir":  {[]string{"-input", good, "-store", good}, "not a directory"},
		"store's parent":   {[]string{"-input", good, "-store", filepath.Join(dir, "a", "b")}, "no such file"},
		"no default input": {nil, "use -input"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := program(t, test.args...)
			command.Env = append(command.Env, "PATH=")
			var stdout, stderr bytes.Buffer
			command.Stdout, command.Stderr = &stdout, &stderr
			assert.Equal(t, 2, statusOf(t, command.Run()))
			assert.Empty(t, stdout.String())
			assert.Contains(t, stderr.String(), test.want)
			assert.Equal(t, 1, strings.Count(stderr.String(), "\n"), "one line: %s", stderr.String())
		})
	}
}

// A result that nobody gets to see is no success.
func TestResultIsNotWritten(t *testing.T) {
	t.Parallel()
	reader, writer := io.Pipe()
	require.NoError(t, reader.CloseWithError(errors.New("the disk is full")))
	var stderr bytes.Buffer
	assert.Equal(t, 1, run(t.Context(), []string{"-input", inputOf(t, 5, "word"), "-cuts", "0"}, writer, &stderr))
	assert.Equal(t, "streaming: the disk is full\n", stderr.String())
}

// Whoever ends the program finds no files left behind.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			temp := t.TempDir()
			command := program(t, "-input", inputOf(t, 1000, "word"), "-cuts", "200")
			command.Env = append(command.Env, "TMPDIR="+temp)
			var stderr bytes.Buffer
			command.Stderr = &stderr
			stdout, err := command.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, command.Start())
			reader := bufio.NewReader(stdout)
			_, err = reader.ReadString('\n') // of the bare stream
			require.NoError(t, err)
			require.NoError(t, command.Process.Signal(signal))
			rest, err := io.ReadAll(reader)
			require.NoError(t, err)
			assert.NotContains(t, string(rest), "done")
			assert.Equal(t, 1, statusOf(t, command.Wait()))
			assert.Equal(t, "streaming: interrupted\n", stderr.String())
			left, err := os.ReadDir(temp)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	got := runProgram(t, "-h")
	assert.Zero(t, got.status)
	assert.Contains(t, got.stdout, "-cuts")
}
