package config

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// shape is what a value looks like in the text.
type shape uint8

const (
	isText shape = iota + 1
	isInteger
	isFloat
	isFlag
	isDate
	isList
	isTable
	isLoose  // from the environment: text that may stand for any scalar
	isBroken // its line is no TOML: already complained of, its value is not known
)

// node is one value of the text with its place.
type node struct {
	at    position
	shape shape
	text  string    // of a scalar, unquoted
	items []*node   // of a list
	keys  []*member // of a table, in the order of the text
	// open: a table that headers and dotted keys may add to; a list made of [[x]].
	open bool
	// header: the table has had its own [x], which may come only once.
	header bool
	// bad: the value was complained of, so that nothing may be concluded from it.
	bad bool
}

// member is one key of a table with its value.
type member struct {
	name  string
	at    position
	value *node
}

func (n *node) member(name string) *member {
	if n == nil {
		return nil
	}
	for _, m := range n.keys {
		if m.name == name {
			return m
		}
	}
	return nil
}

// describe names the value for a message.
func (n *node) describe() string {
	switch n.shape {
	case isText, isLoose:
		return fmt.Sprintf("%q", clip(n.text))
	case isList:
		return "(a list)"
	case isTable:
		return "(a table)"
	default:
		return clip(n.text)
	}
}

func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	end := limit
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}

// builder makes the tree of one text.
type builder struct {
	file   string
	text   []byte
	lines  []int        // offset of each line's first octet
	broken map[int]bool // lines whose value was put there by the repair
	report *report
	parser unstable.Parser
	root   *node
	table  *node // where keys go now
}

func newBuilder(file string, text []byte, broken map[int]bool) *builder {
	b := &builder{file: file, text: text, broken: broken, report: &report{}, lines: []int{0}}
	for i, c := range text {
		if c == '\n' {
			b.lines = append(b.lines, i+1)
		}
	}
	b.root = &node{at: position{file, 1, 1}, shape: isTable, open: true}
	b.table = b.root
	return b
}

// build reads the whole text. fault is nil when all of it is TOML; done is the
// offset behind the last expression that was read.
func (b *builder) build() (fault *unstable.ParserError, done int) {
	b.parser.Reset(b.text)
	for b.parser.NextExpression() {
		e := b.parser.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			done = b.header(e)
		case unstable.KeyValue:
			b.keyValue(b.table, e)
			done = int(e.Raw.Offset + e.Raw.Length)
		}
	}
	errors.As(b.parser.Error(), &fault)
	return fault, done
}

// place is the position of an offset.
func (b *builder) place(offset int) position {
	offset = min(max(offset, 0), len(b.text))
	line := sort.SearchInts(b.lines, offset+1) - 1
	if far := offset - b.lines[line]; far > 10_000 {
		return position{b.file, line + 1, far + 1} // in octets: nobody counts there
	}
	col := utf8.RuneCount(b.text[b.lines[line]:offset]) + 1
	return position{b.file, line + 1, col}
}

type keyPart struct {
	name   string
	offset int
	end    int
}

func keyParts(it unstable.Iterator) []keyPart {
	var parts []keyPart
	for it.Next() {
		k := it.Node()
		parts = append(parts, keyPart{string(k.Data), int(k.Raw.Offset), int(k.Raw.Offset + k.Raw.Length)})
	}
	return parts
}

// header opens the table of [x] or [[x]]. Keys of a header that cannot be are read
// into a table that nobody sees, so that only the header is complained of.
func (b *builder) header(e *unstable.Node) (end int) {
	parts := keyParts(e.Key())
	last := parts[len(parts)-1]
	lost := &node{at: b.place(last.offset), shape: isTable, open: true}
	b.table = lost
	parent := b.descend(b.root, parts[:len(parts)-1])
	if parent == nil {
		return last.end
	}
	at := b.place(last.offset)
	table := &node{at: at, shape: isTable, open: true, header: true}
	found := parent.member(last.name)
	name := dotted(parts)
	switch {
	case found == nil && e.Kind == unstable.ArrayTable:
		list := &node{at: at, shape: isList, open: true, items: []*node{table}}
		parent.keys = append(parent.keys, &member{last.name, at, list})
	case found == nil:
		parent.keys = append(parent.keys, &member{last.name, at, table})
	case e.Kind == unstable.ArrayTable && found.value.shape == isList && found.value.open:
		found.value.items = append(found.value.items, table)
	case e.Kind == unstable.Table && found.value.shape == isTable && found.value.open:
		if found.value.header {
			b.report.add(at, fmt.Sprintf("table [%s] is written twice", name),
				fmt.Sprintf("put its keys under the first one, in line %d", found.at.line))
		}
		found.value.header = true
		table = found.value
	case e.Kind == unstable.Table && found.value.shape == isList:
		b.report.add(at, fmt.Sprintf("[%s] is one table, and line %d says that there are several", name, found.at.line),
			fmt.Sprintf("write [[%s]] each time", name))
		return last.end
	default:
		b.report.add(at, fmt.Sprintf("%q has a value already", name), fmt.Sprintf("remove it here or in line %d", found.at.line))
		return last.end
	}
	b.table = table
	return last.end
}

// descend walks to a table, making what is missing; nil after a complaint.
func (b *builder) descend(from *node, parts []keyPart) *node {
	for i, p := range parts {
		found := from.member(p.name)
		if found == nil {
			at := b.place(p.offset)
			found = &member{p.name, at, &node{at: at, shape: isTable, open: true}}
			from.keys = append(from.keys, found)
		}
		next := found.value
		if next.shape == isList && next.open {
			next = next.items[len(next.items)-1]
		}
		if next.shape != isTable || !next.open {
			b.report.add(b.place(p.offset), fmt.Sprintf("%q has a value already", dotted(parts[:i+1])),
				fmt.Sprintf("add the key there, in line %d", found.at.line))
			return nil
		}
		from = next
	}
	return from
}

func dotted(parts []keyPart) string {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.name
	}
	return strings.Join(names, ".")
}

// keyValue reads key = value into a table.
func (b *builder) keyValue(into *node, e *unstable.Node) {
	parts := keyParts(e.Key())
	last := parts[len(parts)-1]
	at := b.place(last.offset)
	// The value begins behind the equals sign: lists have no place of their own.
	start := last.end
	for start < len(b.text) && slices.Contains([]byte(" \t="), b.text[start]) {
		start++
	}
	value := b.value(e.Value(), start)
	if b.broken[at.line] {
		value.shape, value.bad = isBroken, true
	}
	table := b.descend(into, parts[:len(parts)-1])
	if table == nil {
		return
	}
	if first := table.member(last.name); first != nil {
		b.report.add(at, fmt.Sprintf("key %q is written twice", dotted(parts)),
			fmt.Sprintf("remove it here or in line %d", first.at.line))
		return
	}
	table.keys = append(table.keys, &member{last.name, at, value})
}

func (b *builder) value(v *unstable.Node, start int) *node {
	n := &node{at: b.place(start), text: string(v.Data)}
	switch v.Kind {
	case unstable.String:
		n.shape = isText
	case unstable.Integer:
		n.shape = isInteger
	case unstable.Float:
		n.shape = isFloat
	case unstable.Bool:
		n.shape = isFlag
	case unstable.Array:
		n.shape, n.text = isList, ""
		for it := v.Children(); it.Next(); {
			item := it.Node()
			at := start
			if item.Raw.Length > 0 {
				at = int(item.Raw.Offset)
			}
			n.items = append(n.items, b.value(item, at))
		}
	case unstable.InlineTable:
		// Filled before it is closed: its own dotted keys may add to its tables.
		n.shape, n.text, n.open = isTable, "", true
		for it := v.Children(); it.Next(); {
			b.keyValue(n, it.Node())
		}
		n.open = false
	default:
		n.shape = isDate
	}
	return n
}
