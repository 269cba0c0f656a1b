package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/relay/metrics"
)

// TestReference keeps the generated pages of docs/ fresh. `make docs` writes them.
func TestReference(t *testing.T) {
	for name, write := range map[string]func(io.Writer) error{
		"configuration.md": config.Reference,
		"metrics.md":       metrics.Reference,
	} {
		var want bytes.Buffer
		if err := write(&want); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("..", "..", "docs", name)
		if os.Getenv("SEALPOST_UPDATE_DOCS") != "" {
			if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want.Bytes()) {
			t.Errorf("docs/%s is stale: run `make docs`", name)
		}
	}
}
