package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// What a client process has to know, as environment variables.
const (
	addressVariable = "STREAMING_CLIENT_ADDRESS"
	inputVariable   = "STREAMING_CLIENT_INPUT"
	linesVariable   = "STREAMING_CLIENT_LINES"
	storeVariable   = "STREAMING_CLIENT_STORE"
	journalVariable = "STREAMING_CLIENT_JOURNAL"
)

// runProcesses runs the client as a process, kills it half-way, and runs another one that goes on.
func (j *job) runProcesses(ctx context.Context, address string, s *saboteur, p *progress) error {
	first, err := j.startProcess(ctx, address, p)
	if err != nil {
		return err
	}
	select {
	case err := <-first.ended:
		return errors.Join(errors.New("the client process ended before it could be killed"), err)
	case <-s.halfway:
	}
	if err := first.command.Process.Kill(); err != nil { // SIGKILL, and at once
		return err
	}
	<-first.ended
	p.note("client process %d was killed with about %d answers", first.command.Process.Pid, p.lastAnswer())
	p.nextProcess()
	close(s.killed)

	second, err := j.startProcess(ctx, address, p)
	if err != nil {
		return err
	}
	p.note("client process %d goes on", second.command.Process.Pid)
	return <-second.ended
}

// process is a running client process.
type process struct {
	command *exec.Cmd
	ended   chan error // gets what the process ended with, once
}

// startProcess runs this program again, as a client.
func (j *job) startProcess(ctx context.Context, address string, p *progress) (*process, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, executable)
	command.Env = append(os.Environ(), addressVariable+"="+address, inputVariable+"="+j.input,
		linesVariable+"="+strconv.FormatUint(j.lines, 10), storeVariable+"="+j.dir, journalVariable+"="+j.journal)
	command.Stderr = os.Stderr
	reports, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	started := &process{command: command, ended: make(chan error, 1)}
	go func() { // ends with the process; whoever reads ended waits
		readReports(reports, p)
		started.ended <- command.Wait()
	}()
	return started, nil
}

// readReports hands on a client process's reports until it ends.
func readReports(from io.Reader, p *progress) {
	for decoder := json.NewDecoder(from); ; {
		var r report
		if err := decoder.Decode(&r); err != nil {
			return // the end, maybe in the middle of a report
		}
		p.update(r)
	}
}

// runChild is the client process. It ends with its parent: then nobody reads the reports.
func runChild(ctx context.Context, address string, stdout, stderr io.Writer) int {
	if err := child(ctx, address, stdout); err != nil {
		_, _ = fmt.Fprintln(stderr, "streaming: client process:", err)
		return 1
	}
	return 0
}

func child(ctx context.Context, address string, stdout io.Writer) error {
	lines, err := strconv.ParseUint(os.Getenv(linesVariable), 10, 64)
	if err != nil {
		return err
	}
	store, err := checkpoint.OpenFile(os.Getenv(storeVariable))
	if err != nil {
		return err
	}
	j := &job{input: os.Getenv(inputVariable), lines: lines, store: store, journal: os.Getenv(journalVariable)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	encoder := json.NewEncoder(stdout)
	err = j.client(address, func(r report) {
		if encoder.Encode(r) != nil {
			cancel()
		}
	}).run(ctx)
	return errors.Join(err, store.Close())
}
