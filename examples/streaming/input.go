package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// maxLine is the longest line, in bytes. gRPC refuses messages over 4 MiB.
const maxLine = 1 << 20

// lines yields the lines of a file, without their ends. A line is valid until the next one.
func lines(path string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		file, err := os.Open(path)
		if err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = file.Close() }() // it was only read
		scanner := bufio.NewScanner(file)
		scanner.Buffer(nil, maxLine+len("\r\n"))
		number := 1
		for ; scanner.Scan() && len(scanner.Bytes()) <= maxLine; number++ {
			if !yield(scanner.Bytes(), nil) {
				return
			}
		}
		err = scanner.Err()
		if errors.Is(err, bufio.ErrTooLong) || len(scanner.Bytes()) > maxLine {
			err = fmt.Errorf("%s: line %d is longer than %d bytes", path, number, maxLine)
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// countLines returns the number of lines in a file. A file that cannot be the input is an error.
func countLines(path string) (count uint64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() { // it is read more than once
		return 0, fmt.Errorf("%s is not a regular file", path)
	}
	for _, err := range lines(path) {
		if err != nil {
			return 0, err
		}
		count++
	}
	if count == 0 {
		return 0, fmt.Errorf("%s is empty", path)
	}
	return count, nil
}

// defaultInput returns a large source file of the Go installation.
func defaultInput(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("no Go installation to take the input from, use -input: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(root)), "src", "runtime", "proc.go"), nil
}
