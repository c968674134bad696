package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"

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
