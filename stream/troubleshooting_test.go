package stream_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream"
)

// docs/troubleshooting.md explains each reason and each text of an error, and these tests find those that it does not.

func troubleshooting(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/troubleshooting.md")
	require.NoError(t, err)
	return string(page)
}

// sources returns the files of this package that are no tests.
func sources(t *testing.T) []*ast.File {
	t.Helper()
	return parsed(t, "*.go")
}

// parsed returns the files with these names that are no tests.
func parsed(t *testing.T, pattern string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(pattern)
	require.NoError(t, err)
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
	}
	return files
}

func TestTroubleshootingHasEachReason(t *testing.T) {
	t.Parallel()
	page := troubleshooting(t)
	var names []string
	for _, f := range sources(t) {
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Reason") {
				names = append(names, spec.Names[0].Name)
			}
			return true
		})
	}
	require.NotEmpty(t, names)
	require.Equal(t, stream.Reason(len(names)).String(), "reason("+strconv.Itoa(len(names))+")", "as many as there are constants")
	var headings []string
	for _, m := range regexp.MustCompile(`(?m)^### (Reason\w+: .*)$`).FindAllStringSubmatch(page, -1) {
		headings = append(headings, m[1])
	}
	var want []string
	for i, name := range names {
		want = append(want, name+": "+stream.Reason(i).String())
		if i > 0 {
			require.Contains(t, page, "\n| `"+stream.Reason(i).String()+"` |", "the table of contents")
		}
	}
	require.Equal(t, want, headings, "a heading for each Reason, with its text, in the order of the constants")
}

func TestTroubleshootingHasEachText(t *testing.T) {
	t.Parallel()
	page := strings.Join(strings.Fields(troubleshooting(t)), " ")
	verb := regexp.MustCompile(`%[a-zA-Z]`)
	count := 0
	for _, f := range append(sources(t), parsed(t, "../checkpoint/errors.go")...) {
		ast.Inspect(f, func(n ast.Node) bool {
			text := ""
			for _, part := range verb.Split(errorText(n), -1) {
				if part = strings.Trim(part, " :;()"); len(part) > len(text) {
					text = part
				}
			}
			if len(text) < 6 { // it only joins others
				return true
			}
			count++
			require.Contains(t, page, text[:min(len(text), 60)], "an error's text that docs/troubleshooting.md does not explain")
			return true
		})
	}
	require.Greater(t, count, 40, "texts")
}

// errorText returns the text of an error that n makes, empty if it makes none.
func errorText(n ast.Node) string {
	switch n := n.(type) {
	case *ast.CallExpr:
		var name string
		switch f := n.Fun.(type) {
		case *ast.SelectorExpr:
			name = f.Sel.Name
		case *ast.Ident:
			name = f.Name
		}
		switch {
		case len(n.Args) == 0:
		case name == "New" || name == "Errorf":
			return literal(n.Args[0])
		case name == "refuse" && len(n.Args) > 1:
			return literal(n.Args[1])
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "what" { // of a limitError
			return literal(n.Value)
		}
	}
	return ""
}

// literal returns the value of a string literal, or of several that are added.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil {
			return s
		}
	case *ast.BinaryExpr:
		return literal(e.X) + literal(e.Y)
	}
	return ""
}

// Headings are linked by the names that GitHub gives them.
func TestTroubleshootingLinks(t *testing.T) {
	t.Parallel()
	page := troubleshooting(t)
	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		words := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		anchors[strings.ReplaceAll(words, " ", "-")] = true
	}
	links := regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(page, -1)
	require.NotEmpty(t, links)
	for _, link := range links {
		require.True(t, anchors[link[1]], "the link #%s leads nowhere", link[1])
	}
}
