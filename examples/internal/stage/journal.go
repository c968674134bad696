package stage

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Journal is what a server has taken in. It is empty at first, and safe for concurrent use.
type Journal[T any] struct {
	mu   sync.Mutex // guards the field below
	took []T
}

// Add appends v.
func (j *Journal[T]) Add(v T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.took = append(j.took, v)
}

// AddNext appends v if its number is the next one. Numbers begin with 1.
func (j *Journal[T]) AddNext(number uint64, v T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if number == uint64(len(j.took))+1 {
		j.took = append(j.took, v)
	}
}

// Len returns how many entries there are.
func (j *Journal[T]) Len() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return uint64(len(j.took))
}

// All returns the entries.
func (j *Journal[T]) All() []T {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.took)
}

// Receive calls take with each message that recv returns. It returns nil after the last one.
func Receive[M any](recv func() (*M, error), take func(*M)) error {
	for {
		m, err := recv()
		if err != nil {
			return Ended(err)
		}
		take(m)
	}
}

// Ended returns nil for io.EOF, with which a stream ends well.
func Ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Texts returns n texts, numbered from 0 by the verb in format.
func Texts(format string, n int) []string {
	texts := make([]string, 0, n)
	for i := range n {
		texts = append(texts, fmt.Sprintf(format, i))
	}
	return texts
}
