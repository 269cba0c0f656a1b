package config

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// maxText bounds a configuration: far above any real one, far below what hurts.
const maxText = 4 << 20

// maxFaults bounds how many syntax errors are looked for in one text.
const maxFaults = 25

// readTree reads a text into a tree. Each syntax error is reported, then its lines
// are taken out (a header is repaired where it can be) and the text is read again,
// so that one missing quote does not hide every other mistake.
func readTree(file string, text []byte, r *report) *node {
	if len(text) > maxText {
		r.add(position{file, 1, 1}, fmt.Sprintf("the file has %d octets", len(text)),
			fmt.Sprintf("a configuration has at most %d", maxText))
		return &node{shape: isTable}
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	broken := map[int]bool{}
	for range maxFaults {
		text = slices.Clip(text) // offsetOf counts from the end
		b := newBuilder(file, text, broken)
		fault, done := b.build()
		if fault == nil {
			r.problems = append(r.problems, b.report.problems...)
			return b.root
		}
		at := b.place(offsetOf(text, fault.Highlight))
		r.add(at, "this is not TOML: "+fault.Message, mendSyntax(fault.Message))
		text = b.without(at.line, done)
	}
	return &node{shape: isTable, bad: true}
}

// offsetOf is where a part of the text begins (a subslice of it).
func offsetOf(text, part []byte) int {
	return min(max(cap(text)-cap(part), 0), len(text))
}

func mendSyntax(message string) string {
	switch {
	case strings.Contains(message, "'='"):
		return `write key = value`
	case strings.Contains(message, "close table"), strings.Contains(message, "close array table"):
		return "write [table], or [[table]] for one of several"
	default:
		return `text stands in double quotes, lists in [brackets], and each key on its own line`
	}
}

// patterns find where the next statement probably begins (key, header), and what a
// broken header was to say (name).
type patterns struct{ key, header, name *regexp.Regexp }

func newPatterns() patterns {
	return patterns{
		key:    regexp.MustCompile(`^\s*([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\s*=`),
		header: regexp.MustCompile(`^\s*\[\[?[A-Za-z0-9_. -]+\]\]?\s*(#.*)?$`),
		name:   regexp.MustCompile(`^\s*(\[\[?)\s*([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)`),
	}
}

// without returns the text with the statement that has the fault in line bad taken
// out; lines keep their numbers. done is the offset behind the last good statement.
func (b *builder) without(bad, done int) []byte {
	p := newPatterns()
	lines := strings.Split(string(b.text), "\n")
	first := 0
	if done > 0 {
		first = b.place(done).line // the line after it, counted from 0
	}
	for first < bad-1 && skippable(lines[first]) {
		first++
	}
	first = min(first, bad-1)
	ends := p.starts
	if strings.HasPrefix(strings.TrimSpace(lines[first]), "[") && !p.name.MatchString(lines[first]) {
		ends = p.header.MatchString // the keys of a header without a name belong nowhere
	}
	last := first + 1
	for last < len(lines) && !ends(lines[last]) {
		last++
	}
	repaired := ""
	if m := p.key.FindStringSubmatch(lines[first]); m != nil {
		repaired = m[1] + " = false"
		if b.broken[first+1] {
			repaired = "" // it was tried: the key itself is the fault
		}
		b.broken[first+1] = true
	} else if m := p.name.FindStringSubmatch(lines[first]); m != nil {
		repaired = m[1] + m[2] + strings.Repeat("]", len(m[1]))
		if repaired == lines[first] {
			repaired = ""
		}
	}
	for i := first; i < last; i++ {
		lines[i] = ""
	}
	lines[first] = repaired
	return []byte(strings.Join(lines, "\n"))
}

func skippable(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || line[0] == '#'
}

func (p patterns) starts(line string) bool {
	return p.key.MatchString(line) || p.header.MatchString(line)
}
