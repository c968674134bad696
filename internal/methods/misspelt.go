package methods

import (
	"fmt"
	"strings"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// mostTypos is how many letters apart two names are at most to be taken for one that is misspelt.
const mostTypos = 2

// Misspelt returns an error if a pattern names no method of a service whose generated code is linked in, or a service whose
// name is nearly that of one. It knows nothing of services that are not linked in, and so nothing against them. A string that
// is no pattern is none that is misspelt.
func Misspelt(pattern string) error {
	if pattern == "*" {
		return nil
	}
	service, method, err := split(pattern)
	if err != nil {
		return nil //nolint:nilerr // Validate reports it
	}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	known, ok := found.(protoreflect.ServiceDescriptor)
	if err != nil || !ok {
		if near := nearService(service); near != "" {
			return fmt.Errorf("method pattern %q: no service %s is linked in: did you mean %s?", pattern, service, near)
		}
		return nil
	}
	if method == "*" || known.Methods().ByName(protoreflect.Name(method)) != nil {
		return nil
	}
	names := make([]string, known.Methods().Len())
	for i := range names {
		names[i] = string(known.Methods().Get(i).Name())
	}
	return fmt.Errorf("method pattern %q: %s has no method %s, but %s", pattern, service, method, strings.Join(names, ", "))
}

// nearService returns the service linked in whose name is nearly the given one; "" if there is none. Names that differ in
// digits only are those of versions.
func nearService(name string) (near string) {
	best := mostTypos + 1
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			other := string(file.Services().Get(i).FullName())
			if n := typos(strings.ToLower(name), strings.ToLower(other)); n < best && withoutDigits(name) != withoutDigits(other) {
				best, near = n, other
			}
		}
		return true
	})
	return near
}

func withoutDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, s)
}

// typos is how many letters have to be put in, left out or replaced to make b of a; more than mostTypos where the lengths
// differ by more.
func typos(a, b string) int {
	if len(a)-len(b) > mostTypos || len(b)-len(a) > mostTypos {
		return mostTypos + 1
	}
	row := make([]int, len(b)+1) // of the part of a so far, to each part of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
