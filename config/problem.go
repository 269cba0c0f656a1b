package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake in a configuration, with its place and its remedy.
type Problem struct {
	// File is the file's name as given, or the environment variable.
	File string `json:"file"`
	// Line and Column count from 1, Column in characters. Line is 0 where there is
	// no line: a file that cannot be read, a variable of the environment.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// What is wrong, and how to Mend it: sentences without a full stop.
	What string `json:"what"`
	Mend string `json:"mend,omitempty"`
	// Meant is the word that was probably meant, or "".
	Meant string `json:"meant,omitempty"`
}

// String writes the problem as file:line:column: what: how to mend it (did you mean "x"?).
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": " + p.What)
	if p.Mend != "" {
		b.WriteString(": " + p.Mend)
	}
	if p.Meant != "" {
		fmt.Fprintf(&b, " (did you mean %q?)", p.Meant)
	}
	return b.String()
}

// Errors is everything that is wrong with a configuration: by file, line and
// column, the environment last. It is never empty when it is returned as an error.
type Errors []Problem

// Error writes one problem a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// position is a place in the text; line 0 for a variable of the environment.
type position struct {
	file      string
	line, col int
}

// report gathers problems and notes while a configuration is read.
type report struct {
	main     string // the configuration file
	problems []Problem
	notes    []Problem
}

func (r *report) add(at position, what, mend string) {
	r.suggest(at, Problem{What: what, Mend: mend})
}

// suggest files a problem, whose place it fills in.
func (r *report) suggest(at position, p Problem) {
	p.File, p.Line, p.Column = at.file, at.line, at.col
	r.problems = append(r.problems, p)
}

func (r *report) note(at position, what, mend string) {
	r.notes = append(r.notes, Problem{File: at.file, Line: at.line, Column: at.col, What: what, Mend: mend})
}

// errors returns the problems in the order of the text, or nil.
func (r *report) errors() error {
	if len(r.problems) == 0 {
		return nil
	}
	list := slices.Clone(r.problems)
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(min(b.Line, 1), min(a.Line, 1)), // what has no line comes last
			cmp.Compare(r.other(a.File), r.other(b.File)),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
		)
	})
	return Errors(slices.Compact(list))
}

// other is the name of a file that the configuration names, "" for itself: it goes first.
func (r *report) other(file string) string {
	if file == r.main {
		return ""
	}
	return file
}

// nearest returns the known word that s was probably meant to be, or "". A word
// counts when at most a third of its letters are wrong (in words of four or more at
// least one may be), or when one of the two begins with the other.
func nearest(s string, known []string) string {
	best, bestCost := "", 0
	s = strings.ToLower(s)
	if len(s) > 64 {
		return ""
	}
	for _, k := range known {
		a, b := strings.ReplaceAll(s, "-", "_"), strings.ReplaceAll(strings.ToLower(k), "-", "_")
		cost := distance(a, b)
		limit := len(k) / 3
		if len(k) < 4 {
			limit = 0
		}
		alike := min(len(a), len(b)) >= 4 && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a))
		if cost > limit && !alike {
			continue
		}
		if best == "" || cost < bestCost {
			best, bestCost = k, cost
		}
	}
	return best
}

// distance is the Damerau-Levenshtein distance of two short words (transposition
// of neighbours counts as one).
func distance(a, b string) int {
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
