package config

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/policy"
)

// kind is a kind of value: how it is called, read and written.
type kind[T any] struct {
	word  string // for the reference: "duration"
	read  func(f *finding, n *node) (T, bool)
	write func(T) string // as a TOML value
}

// finding is a value being read: it knows the key for the complaints.
type finding struct {
	key    string
	report *report
}

// wrong complains of a value: what is wrong with it, and how to mend it.
func (f *finding) wrong(n *node, what, mend string) {
	if n.shape != isList && n.shape != isTable {
		what = n.describe() + " " + what
	}
	f.report.add(n.at, f.key+" "+what, mend)
}

// text kinds

// scalarText returns the text of a value that must be text in quotes.
func scalarText(f *finding, n *node) (string, bool) {
	switch n.shape {
	case isText, isLoose:
		if i := strings.IndexFunc(n.text, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
			f.wrong(n, "holds a control character", "take it out")
			return "", false
		}
		return n.text, true
	case isList:
		f.wrong(n, "is a list", "write one text in quotes")
	case isTable:
		f.wrong(n, "is a table", "write one text in quotes")
	default:
		f.wrong(n, "is no text", fmt.Sprintf("put it in quotes: %q", clip(n.text)))
	}
	return "", false
}

func text(word string) kind[string] {
	return kind[string]{word: word, read: scalarText, write: quote}
}

// parsed is a kind whose text a function understands. The function's error says
// what is wrong, the mend how to mend it.
func parsed[T any](word, mend string, parse func(string) (T, error), write func(T) string) kind[T] {
	return kind[T]{word: word, write: func(v T) string { return quote(write(v)) },
		read: func(f *finding, n *node) (v T, ok bool) {
			s, ok := scalarText(f, n)
			if !ok {
				return v, false
			}
			v, err := parse(s)
			if err != nil {
				f.wrong(n, err.Error(), mend)
				return v, false
			}
			return v, true
		}}
}

// oneOf is a kind with few words.
func oneOf[T ~string](words ...T) kind[T] {
	known := make([]string, len(words))
	for i, w := range words {
		known[i] = string(w)
	}
	list := strings.Join(known, ", ")
	return kind[T]{word: strings.Join(known, " | "), write: func(v T) string { return quote(string(v)) },
		read: func(f *finding, n *node) (T, bool) {
			s, ok := scalarText(f, n)
			if ok && slices.Contains(known, s) {
				return T(s), true
			}
			if ok {
				f.unknownWord(n, list, nearest(s, known))
			}
			return "", false
		}}
}

func (f *finding) unknownWord(n *node, list, meant string) {
	f.report.suggest(n.at, Problem{What: f.key + " " + n.describe() + " is unknown", Mend: "use one of " + list, Meant: meant})
}

// level reads a protection level. With "" allowed, that is policy.Unset.
func level() kind[policy.Level] {
	var known []string
	for _, l := range policy.Levels() {
		known = append(known, l.String())
	}
	list := strings.Join(known, ", ")
	return kind[policy.Level]{word: "level", write: writeLevel,
		read: func(f *finding, n *node) (policy.Level, bool) {
			s, ok := scalarText(f, n)
			if !ok {
				return policy.Unset, false
			}
			l, err := policy.ParseLevel(s)
			if err != nil {
				f.unknownWord(n, list, nearest(s, known))
			}
			return l, err == nil
		}}
}

func writeLevel(l policy.Level) string {
	if l == policy.Unset {
		return quote("")
	}
	return quote(l.String())
}

func optionalLevel() kind[policy.Level] { return optional(level()) }

// optional also takes "" for the zero value.
func optional[T any](k kind[T]) kind[T] {
	read := k.read
	k.read = func(f *finding, n *node) (v T, ok bool) {
		if (n.shape == isText || n.shape == isLoose) && n.text == "" {
			return v, true
		}
		return read(f, n)
	}
	return k
}

func onUnmet() kind[policy.OnUnmet] {
	words := oneOf("defer", "bounce")
	return kind[policy.OnUnmet]{word: words.word, write: writeOnUnmet,
		read: func(f *finding, n *node) (policy.OnUnmet, bool) {
			s, ok := words.read(f, n)
			if !ok {
				return policy.OnUnmetUnset, false
			}
			o, err := policy.ParseOnUnmet(s)
			return o, err == nil
		}}
}

func writeOnUnmet(o policy.OnUnmet) string {
	if o == policy.OnUnmetUnset {
		return quote("")
	}
	return quote(o.String())
}

func logLevel() kind[slog.Level] {
	words := oneOf("debug", "info", "warn", "error")
	return kind[slog.Level]{word: words.word,
		write: func(l slog.Level) string { return quote(strings.ToLower(l.String())) },
		read: func(f *finding, n *node) (l slog.Level, ok bool) {
			s, ok := words.read(f, n)
			return l, ok && l.UnmarshalText([]byte(s)) == nil
		}}
}

// switches and numbers

func boolean() kind[bool] {
	return kind[bool]{word: "true or false", write: strconv.FormatBool,
		read: func(f *finding, n *node) (bool, bool) {
			if n.shape == isFlag || n.shape == isLoose {
				if v, err := strconv.ParseBool(n.text); err == nil {
					return v, true
				}
			}
			f.wrong(n, "is neither true nor false", "write true or false, without quotes")
			return false, false
		}}
}

// count is a whole number of at least low and at most high.
func count(low, high int) kind[int] {
	return kind[int]{word: "number", write: strconv.Itoa,
		read: func(f *finding, n *node) (int, bool) {
			limits := fmt.Sprintf("write a whole number from %d to %d, without quotes", low, high)
			v, ok := integer(n)
			switch {
			case !ok:
				f.wrong(n, "is no whole number", limits)
			case v < int64(low) || v > int64(high):
				f.wrong(n, "is out of range", limits)
			default:
				return int(v), true
			}
			return 0, false
		}}
}

// integer reads a TOML integer: digits with underscores, or 0x, 0o, 0b.
func integer(n *node) (int64, bool) {
	if n.shape != isInteger && n.shape != isLoose {
		return 0, false
	}
	s := strings.ReplaceAll(n.text, "_", "")
	base := 10
	for prefix, b := range map[string]int{"0x": 16, "0o": 8, "0b": 2} {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			s, base = rest, b
		}
	}
	v, err := strconv.ParseInt(s, base, 64)
	return v, err == nil
}

// list is a list of values of one kind. A lone item is not taken for a list of one,
// except from the environment, where items are parted by commas.
func list[T any](item kind[T]) kind[[]T] {
	return kind[[]T]{word: "list of: " + item.word,
		write: func(v []T) string {
			parts := make([]string, len(v))
			for i := range v {
				parts[i] = item.write(v[i])
			}
			return "[" + strings.Join(parts, ", ") + "]"
		},
		read: func(f *finding, n *node) (all []T, ok bool) {
			items := n.items
			switch n.shape {
			case isList:
			case isLoose:
				items = nil
				for part := range strings.SplitSeq(n.text, ",") {
					if part = strings.TrimSpace(part); part != "" {
						items = append(items, &node{at: n.at, shape: isLoose, text: part})
					}
				}
			case isTable:
				f.wrong(n, "is no list", "write values in [brackets]")
				return nil, false
			default:
				f.wrong(n, "is no list", "put it in brackets: ["+n.source()+"]")
				return nil, false
			}
			ok = true
			for _, i := range items {
				v, good := item.read(f, i)
				i.bad = !good
				ok = ok && good
				all = append(all, v)
			}
			return all, ok
		}}
}

// source writes a scalar as it would stand in the text.
func (n *node) source() string {
	if n.shape == isText {
		return quote(clip(n.text))
	}
	return clip(n.text)
}

// quote writes a TOML basic string (TOML 1.0, string).
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
