package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Print writes the whole configuration as TOML, every default filled in. What it
// writes parses to an equal Config. The error is the writer's.
func (c *Config) Print(w io.Writer) error {
	b := bufio.NewWriter(w)
	printTable(b, schema(), c, "")
	return b.Flush()
}

// printTable writes a table's keys, then its inner tables. TOML wants this order:
// a key belongs to the header before it.
func printTable(w *bufio.Writer, t table, section any, path string) {
	for _, f := range t.fields {
		if v := f.write(section); v != "" {
			fmt.Fprintf(w, "%s = %s\n", f.label(), v)
		}
	}
	for _, i := range t.inner {
		// No [[x]] would mean the default, which may be some.
		if i.many && len(i.each(section)) == 0 {
			fmt.Fprintf(w, "%s = []\n", i.name)
		}
	}
	for _, i := range t.inner {
		header := "[" + join(path, i.name) + "]"
		if i.many {
			header = "[" + header + "]"
		}
		for _, s := range i.each(section) {
			fmt.Fprintf(w, "\n%s\n", header)
			printTable(w, i, s, join(path, i.name))
		}
	}
}

// Reference writes docs/configuration.md: every table and key with its kind,
// default and meaning. The error is the writer's.
func Reference(w io.Writer) error {
	b := bufio.NewWriter(w)
	b.WriteString(`# Configuration

<!-- Generated from the table of keys in config/settings.go: change it there. -->

Sealpost reads TOML. Every key has a default, so an empty file is a valid one. Unknown keys and bad values are reported
all at once, as ` + "`file:line:column: what is wrong: how to mend it`" + `; ` + "`sealpost check-config --print FILE`" + ` writes
what is in effect. Paths are relative to the working directory. Secrets stand in files of their own.

A variable of the environment overrides a key: ` + "`SEALPOST_DELIVERY__PORT=2525`" + ` is ` + "`port`" + ` in ` + "`[delivery]`" + `, and
` + "`SEALPOST_SUBMISSION__0__LISTEN`" + ` is ` + "`listen`" + ` of the first ` + "`[[submission]]`" + `. Lists are parted by commas.

- duration: numbers with units, ` + "`\"90s\"`, `\"4h30m\"`, `\"5d\"`" + ` (w, d, h, m, s, ms)
- size: ` + "`\"25MiB\"`, `\"1GB\"`" + `, or a number of octets
- rate: ` + "`\"200/s\"`" + ` (s, m, h, d)
- level: plaintext, legacy, encrypted, verified, mta-sts, dane
`)
	for _, t := range schema().inner {
		referTable(b, t, t.name)
	}
	return b.Flush()
}

func referTable(w *bufio.Writer, t table, path string) {
	header := "[" + path + "]"
	if t.many {
		header = "[" + header + "]"
	}
	fmt.Fprintf(w, "\n## `%s`\n\n%s\n\n| key | kind | default | meaning |\n|---|---|---|---|\n", header, t.doc)
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	for _, f := range t.fields {
		word, def, doc := f.explain()
		if def != "" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", f.label(), cell.Replace(word), cell.Replace(def), cell.Replace(doc))
	}
	for _, i := range t.inner {
		referTable(w, i, join(path, i.name))
	}
}
