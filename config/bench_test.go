package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkParse is for the texts of testdata and some that are made to be slow.
func BenchmarkParse(b *testing.B) {
	texts := map[string]string{
		"unclosed":  strings.Repeat("a = [\n", 20_000),
		"headers":   strings.Repeat("[a\n", 20_000),
		"unknown":   strings.Repeat("[unknown]\nx = 1\n", 5_000),
		"deep":      "a = " + strings.Repeat("[", 50_000),
		"deeper":    "a = " + strings.Repeat("{a=", 50_000),
		"long key":  strings.Repeat("a.", 50_000) + "a = 1",
		"many keys": "[delivery]\n" + manyKeys(5_000),
	}
	files, _ := filepath.Glob("testdata/*.toml")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			b.Fatal(err)
		}
		texts[filepath.Base(f)] = string(text)
	}
	for name, text := range texts {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				_, _ = Parse("bench.toml", []byte(text), nil)
			}
		})
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("key" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + " = 1\n")
	}
	return b.String()
}
