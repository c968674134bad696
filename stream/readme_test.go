package stream_test

import (
	"go/ast"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The README's code for streams is cut from examples that run. example_test.go has no test, so that its page shows all of it.
func TestReadmeShowsTheExamples(t *testing.T) {
	t.Parallel()
	var sources strings.Builder
	for _, path := range []string{"example_test.go", "../examples/tokens/client.go", "../examples/upload/client.go", "../examples/watch/client.go"} {
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		sources.Write(source)
	}
	code := strings.NewReplacer("request, response", "Request, Response", "*response", "*Response").Replace(sources.String())
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	blocks := strings.Split(string(readme), "```go\n")[1:]
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		block, _, found := strings.Cut(block, "```")
		require.True(t, found, "the end of a block")
		if strings.Contains(block, "stream.") {
			require.Contains(t, code, indented(block))
		}
	}
}

// indented returns code as it stands in a function.
func indented(code string) string {
	var out strings.Builder
	for line := range strings.Lines(code) {
		out.WriteString("\t" + line)
	}
	return out.String()
}

// The code of docs/protocol.md is cut from example_protocol_test.go.
func TestProtocolPageShowsTheExample(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("example_protocol_test.go")
	require.NoError(t, err)
	page, err := os.ReadFile("../docs/protocol.md")
	require.NoError(t, err)
	for _, part := range []string{"session", "server", "client"} {
		_, rest, _ := strings.Cut(string(source), "// protocol.md: begin "+part+"\n")
		code, _, found := strings.Cut(rest, "// protocol.md: end "+part)
		require.True(t, found, "markers of %s", part)
		code = strings.TrimRight(code, "\t\n")
		if strings.HasPrefix(code, "\t") {
			code = strings.ReplaceAll(strings.TrimPrefix(code, "\t"), "\n\t", "\n")
		}
		want := strings.NewReplacer("request, response", "Request, Response", "*response", "*Response", "*request", "*Request",
			"[response]", "[Response]").Replace(code)
		require.Contains(t, string(page), "```go\n"+want+"\n```")
	}
}

// The numbers of invariants are for who works on this package. They stand in ARCHITECTURE.md.
func TestGodocNamesNoInvariants(t *testing.T) {
	t.Parallel()
	public := func(doc *ast.CommentGroup, names ...*ast.Ident) {
		for _, name := range names {
			if name.IsExported() {
				require.NotContains(t, doc.Text(), "invariant", "the comment of %s", name)
			}
		}
	}
	for _, f := range sources(t) {
		require.NotContains(t, f.Doc.Text(), "invariant")
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				public(n.Doc, n.Name)
				return false
			case *ast.GenDecl:
				for _, spec := range n.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						public(n.Doc, spec.Name)
					case *ast.ValueSpec:
						public(n.Doc, spec.Names...)
					}
				}
			case *ast.ValueSpec:
				public(n.Doc, n.Names...)
			case *ast.Field:
				public(n.Doc, n.Names...)
			}
			return true
		})
	}
}
