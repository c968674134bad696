package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

// verdict is what is wrong with a journal.
type verdict struct {
	lost       uint64 // lines without a right answer
	duplicated uint64 // answers to a line that has one already
	reordered  uint64 // answers that come after one with a higher number
	firstWrong error  // the first entry that is not what it should be
	compared   bool   // the journal was read to its end
}

func (v *verdict) ok() bool {
	return v.compared && v.lost == 0 && v.duplicated == 0 && v.reordered == 0 && v.firstWrong == nil
}

// verify compares a journal with what is computed here from the input itself, which had so many lines at the beginning.
func verify(input string, lines uint64, journalPath string) (verdict, error) {
	want, err := compute(input)
	if err != nil {
		return verdict{}, err
	}
	if now := uint64(len(want)); now != lines {
		return verdict{}, fmt.Errorf("the input has changed: it had %d lines, now %d", lines, now)
	}
	file, err := os.Open(journalPath)
	if err != nil {
		return verdict{}, err
	}
	defer func() { _ = file.Close() }() // it was only read
	return compare(want, file)
}

// compute returns the entries that the journal of an input has to have.
func compute(input string) ([]string, error) {
	var entries []string
	words := 0
	for line, err := range lines(input) {
		if err != nil {
			return nil, err
		}
		words += len(bytes.Fields(line))
		entries = append(entries, fmt.Sprintf(entryFormat, len(entries)+1, sha256.Sum256(line), words))
	}
	return entries, nil
}

// compare judges a journal. An entry that is wrong is no answer, so its line counts as lost.
func compare(want []string, journal io.Reader) (verdict, error) {
	var v verdict
	answered := make([]bool, len(want)+1)
	right, highest := 0, 0
	reader := bufio.NewReader(journal)
	for at := 1; ; at++ {
		entry, err := reader.ReadString('\n')
		if errors.Is(err, io.EOF) && entry == "" {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return v, err
		}
		number := numberOf(entry)
		if number < 1 || number > len(want) || entry != want[number-1] {
			if v.firstWrong == nil {
				v.firstWrong = fmt.Errorf("entry %d of the journal is wrong: %.100q", at, entry)
			}
			continue
		}
		if answered[number] {
			v.duplicated++
			continue
		}
		if number < highest {
			v.reordered++
		}
		highest = max(highest, number)
		answered[number] = true
		right++
	}
	v.lost, v.compared = uint64(len(want)-right), true
	return v, nil
}

// numberOf returns the line number of an entry, 0 where it has none.
func numberOf(entry string) (number int) {
	_, _ = fmt.Sscan(entry, &number) // 0
	return number
}
