package config

// The table of keys is made of these: a table has fields (its keys) and inner
// tables. A section is a pointer to the struct that a table fills.

// table is one TOML table, or one list of tables.
type table struct {
	name   string // its last word: "log" for [server.log]
	doc    string
	many   bool // [[x]]
	fields []field
	inner  []table
	// open returns the n sections of the table in its parent section, made anew;
	// n is 1 unless many.
	open func(parent any, n int) []any
	// each returns the sections as they are.
	each func(parent any) []any
}

// field is one key of a table.
type field interface {
	label() string
	explain() (word, def, doc string)
	// reset sets the default.
	reset(section any)
	read(f *finding, section any, n *node) bool
	write(section any) string
}

// key is the field of a section S that holds a T.
type key[S, T any] struct {
	name string
	kind kind[T]
	at   func(*S) *T
	def  T
	doc  string
}

func (k key[S, T]) label() string { return k.name }

func (k key[S, T]) explain() (word, def, doc string) { return k.kind.word, k.kind.write(k.def), k.doc }

func (k key[S, T]) reset(section any) { *k.at(section.(*S)) = k.def }

func (k key[S, T]) write(section any) string { return k.kind.write(*k.at(section.(*S))) }

func (k key[S, T]) read(f *finding, section any, n *node) bool {
	v, ok := k.kind.read(f, n)
	if ok {
		*k.at(section.(*S)) = v
	}
	return ok
}

// later is a key of the contract whose feature does not exist yet. It is known, so
// that nobody takes it for a misspelling, and refused, so that nobody relies on it.
type later struct{ name, word, doc string }

func (l later) label() string                    { return l.name }
func (l later) explain() (word, def, doc string) { return l.word, "", l.doc + " Not available yet." }
func (l later) reset(any)                        {}
func (l later) write(any) string                 { return "" }
func (l later) read(f *finding, _ any, n *node) bool {
	f.report.add(n.at, f.key+" is not available in this version", "take it out: it would be without effect")
	return false
}

// one is a table that stands once.
func one[P, S any](name, doc string, at func(*P) *S, fields []field) table {
	get := func(parent any) []any { return []any{at(parent.(*P))} }
	return table{name: name, doc: doc, fields: fields, each: get,
		open: func(parent any, _ int) []any { return get(parent) }}
}

// several is a list of tables.
func several[P, S any](name, doc string, at func(*P) *[]S, fields []field) table {
	each := func(parent any) []any {
		list := *at(parent.(*P))
		all := make([]any, len(list))
		for i := range list {
			all[i] = &list[i]
		}
		return all
	}
	return table{name: name, doc: doc, many: true, fields: fields, each: each,
		open: func(parent any, n int) []any {
			*at(parent.(*P)) = nil
			if n > 0 {
				*at(parent.(*P)) = make([]S, n)
			}
			return each(parent)
		}}
}

// with adds inner tables.
func (t table) with(inner ...table) table {
	t.inner = inner
	return t
}

func (t table) field(name string) field {
	for _, f := range t.fields {
		if f.label() == name {
			return f
		}
	}
	return nil
}

func (t table) child(name string) *table {
	for i := range t.inner {
		if t.inner[i].name == name {
			return &t.inner[i]
		}
	}
	return nil
}

// names lists all keys and inner tables.
func (t table) names() []string {
	var all []string
	for _, f := range t.fields {
		all = append(all, f.label())
	}
	for _, i := range t.inner {
		all = append(all, i.name)
	}
	return all
}

// join puts a key behind the path of its table.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
