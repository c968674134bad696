package stage_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A small example fits on two screens: its client and its server have fewer than 120 lines together.
func TestExamplesAreShort(t *testing.T) {
	t.Parallel()
	for _, example := range []string{"feed", "link", "tokens", "upload", "watch"} {
		lines := 0
		for _, half := range []string{"client.go", "server.go"} {
			code, err := os.ReadFile(filepath.Join("..", "..", example, half))
			if err != nil {
				t.Fatal(err)
			}
			lines += bytes.Count(code, []byte("\n"))
		}
		if lines >= 120 {
			t.Errorf("%s has %d lines", example, lines)
		}
	}
}
