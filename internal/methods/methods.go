// Package methods looks things up by gRPC method: for one method, for a service, or for all.
package methods

import (
	"fmt"
	"strings"
)

// A pattern is one of
//
//	/pkg.Service/Method   one method
//	/pkg.Service/*        every method of a service
//	*                     every method
//
// The leading slash is optional in a pattern and in a method alike: grpc-go's server serves a method that comes without
// one, so a rule must not be missed for the lack of it.

// Map holds a value for each pattern. The most specific pattern of a method wins: the method itself, then its service,
// then all. The zero Map is empty and usable. Once it is filled, any number of goroutines may read it.
type Map[V any] struct {
	exact   map[string]V // by "pkg.Service/Method"
	service map[string]V // by "pkg.Service"
	all     V
	hasAll  bool
}

// Set gives a pattern its value, in place of the one it had. It fails where the pattern is none of the three forms.
func (m *Map[V]) Set(pattern string, value V) error {
	if pattern == "*" {
		m.all, m.hasAll = value, true
		return nil
	}
	service, method, err := split(pattern)
	if err != nil {
		return err
	}
	if method == "*" {
		if m.service == nil {
			m.service = make(map[string]V)
		}
		m.service[service] = value
		return nil
	}
	if m.exact == nil {
		m.exact = make(map[string]V)
	}
	m.exact[service+"/"+method] = value
	return nil
}

// Get returns the value of the most specific pattern that a full method name matches. It does not allocate.
func (m *Map[V]) Get(fullMethod string) (value V, ok bool) {
	if len(m.exact) > 0 || len(m.service) > 0 {
		name := strings.TrimPrefix(fullMethod, "/")
		if value, ok = m.exact[name]; ok {
			return value, true
		}
		service, _ := Split(fullMethod)
		if value, ok = m.service[service]; ok {
			return value, true
		}
	}
	return m.all, m.hasAll
}

// Len is the number of patterns that have a value.
func (m *Map[V]) Len() int {
	n := len(m.exact) + len(m.service)
	if m.hasAll {
		n++
	}
	return n
}

// Set is a set of patterns. The zero Set is empty and usable.
type Set struct {
	patterns Map[struct{}]
}

// Add puts patterns into the set. It stops at the first that is not a pattern.
func (s *Set) Add(patterns ...string) error {
	for _, p := range patterns {
		if err := s.patterns.Set(p, struct{}{}); err != nil {
			return err
		}
	}
	return nil
}

// Has reports whether a full method name matches a pattern of the set. It does not allocate.
func (s *Set) Has(fullMethod string) bool {
	_, ok := s.patterns.Get(fullMethod)
	return ok
}

// Validate reports whether a string is a pattern.
func Validate(pattern string) error {
	if pattern == "*" {
		return nil
	}
	_, _, err := split(pattern)
	return err
}

// Split returns the two parts of a full method name, "pkg.Service" and "Method" of "/pkg.Service/Method". Both are empty
// where it is not one.
func Split(fullMethod string) (service, method string) {
	name := strings.TrimPrefix(fullMethod, "/")
	end := strings.LastIndexByte(name, '/')
	if end < 0 {
		return "", ""
	}
	return name[:end], name[end+1:]
}

func split(pattern string) (service, method string, err error) {
	service, method, ok := strings.Cut(strings.TrimPrefix(pattern, "/"), "/")
	if !ok || service == "" || method == "" || strings.Contains(method, "/") ||
		strings.Contains(service, "*") || method != "*" && strings.Contains(method, "*") {
		return "", "", fmt.Errorf(
			"method pattern %q: want \"/pkg.Service/Method\", \"/pkg.Service/*\" or \"*\"", pattern)
	}
	return service, method, nil
}
