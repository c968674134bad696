package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"

	"github.com/streamsafe/streamsafe/examples/streaming/countpb"
)

// A journal is the result of the job: a text file with one entry for each answer, all of the same size, so that entry n
// ends at n times that size.
const (
	entryFormat = "%12d %64x %12d\n" // number, SHA-256, words so far
	entrySize   = 12 + 1 + 64 + 1 + 12 + 1
)

// journal writes answers to a file.
//
// Each answer gets into the file exactly once, wherever the process is killed:
//
//  1. Answers are appended in the order in which they come, and sync puts them on the disk.
//  2. Only then is the position of the last one committed. So the file has at least what the checkpoint says.
//  3. A new process starts from the checkpoint, and cuts the file back to it: what an earlier process appended after
//     its last commit comes again.
type journal struct {
	file   *os.File
	writer *bufio.Writer
}

// checkJournal returns an error where the file at path is not one to be started anew: only an earlier journal is, or an
// empty file. None at all is fine too.
func checkJournal(path, input string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	inputInfo, err := os.Stat(input)
	if err != nil {
		return err
	}
	if os.SameFile(info, inputInfo) { // by whatever name
		return fmt.Errorf("the answers would overwrite the input %q", input)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() == 0 {
		return nil
	}
	first := make([]byte, entrySize)
	if _, err := io.ReadFull(file, first); err != nil || !isFirstEntry(first) {
		return fmt.Errorf("%s is there, and holds no answers of an earlier job", path)
	}
	return nil
}

// isFirstEntry reports whether entry is what a journal begins with.
func isFirstEntry(entry []byte) bool {
	return regexp.MustCompile(`^ {11}1 [0-9a-f]{64} [ 0-9]{11}[0-9]\n$`).Match(entry)
}

// openJournal opens the file at path and makes it one of so many entries, which it has to have.
func openJournal(path string, entries uint64) (*journal, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := cutBack(file, int64(entries)*entrySize); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &journal{file: file, writer: bufio.NewWriter(file)}, nil
}

// cutBack shortens file to size and goes to its end.
func cutBack(file *os.File, size int64) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < size {
		return fmt.Errorf("%s has %d bytes, and the checkpoint says %d", file.Name(), info.Size(), size)
	}
	if err := file.Truncate(size); err != nil {
		return err
	}
	_, err = file.Seek(size, 0)
	return err
}

func (j *journal) append(a *countpb.Answer) error {
	_, err := fmt.Fprintf(j.writer, entryFormat, a.GetNumber(), a.GetHash(), a.GetWords())
	return err
}

// sync returns when all that was appended is on the disk.
func (j *journal) sync() error {
	if err := j.writer.Flush(); err != nil {
		return err
	}
	return j.file.Sync()
}

func (j *journal) close() error { return j.file.Close() }
