package config

import (
	"fmt"
	"strings"
)

// decoder fills sections from the tree and remembers where each came from.
type decoder struct {
	report *report
	places map[any]*node // by section; a section that the text has not has no place
	path   string        // of the table being read
	top    position      // of the text
}

// table reads a table of the text into its section. n is nil for a table that the
// text does not have.
func (d *decoder) table(t table, section any, n *node) {
	for _, f := range t.fields {
		f.reset(section)
	}
	outer := d.path
	for i := range t.inner {
		child := &t.inner[i]
		d.path = join(outer, child.name)
		d.inner(child, section, n.member(child.name))
	}
	d.path = outer
	if n == nil {
		return
	}
	d.places[section] = n
	for _, m := range n.keys {
		f := t.field(m.name)
		switch {
		case f != nil && m.value.shape != isBroken:
			m.value.bad = !f.read(&finding{join(d.path, m.name), d.report}, section, m.value)
		case f == nil && t.child(m.name) == nil:
			d.unknown(t, m)
		}
	}
}

// inner reads the tables under one name; m is nil where there are none.
func (d *decoder) inner(t *table, parent any, m *member) {
	var tables []*node
	if m != nil && m.value.shape != isBroken {
		tables = d.sections(t, m.value)
	}
	if !t.many {
		tables = append(tables, nil)[:1]
	}
	sections := t.open(parent, len(tables))
	for i, s := range sections {
		d.table(*t, s, tables[i])
	}
}

// sections returns the tables that a value holds, after a complaint if it holds
// anything else.
func (d *decoder) sections(t *table, v *node) []*node {
	wrong := func(n *node, what, mend string) {
		n.bad, v.bad = true, true
		d.report.add(n.at, what, mend)
	}
	asHeader, asValue := "["+d.path+"]", fmt.Sprintf("%s = { key = value }", t.name)
	if t.many {
		asHeader, asValue = "["+asHeader+"]", fmt.Sprintf("%s = [ { key = value } ]", t.name)
	}
	switch {
	case !t.many && v.shape == isTable:
		return []*node{v}
	case !t.many && v.shape == isList && v.open:
		wrong(v, fmt.Sprintf("[[%s]] stands for several tables, and there is only one", d.path), "write "+asHeader)
		return v.items[:1]
	case t.many && v.shape == isTable:
		wrong(v, fmt.Sprintf("%s is one table, and there may be several", d.path), "write "+asHeader)
		return []*node{v}
	case t.many && v.shape == isList:
		var tables []*node
		for _, item := range v.items {
			if item.shape != isTable {
				wrong(item, d.path+" holds "+item.describe()+", which is no table", "write "+asValue)
				continue
			}
			tables = append(tables, item)
		}
		return tables
	default:
		wrong(v, d.path+" is "+v.describe()+" in place of a table", "write "+asHeader+" or "+asValue)
		return nil
	}
}

// unknown complains of a key that the table does not have, and looks for the one
// that was meant: a neighbour with nearly this name, or the same name elsewhere.
func (d *decoder) unknown(t table, m *member) {
	what := "unknown key " + fmt.Sprintf("%q", clip(m.name))
	if m.value.shape == isTable || m.value.shape == isList && m.value.open {
		what = "unknown table " + fmt.Sprintf("%q", clip(m.name))
	}
	where := "at the top"
	if d.path != "" {
		where = "in [" + d.path + "]"
	}
	p := Problem{What: what + " " + where, Meant: nearest(m.name, t.names())}
	homes := homesOf(m.name, schema(), "")
	switch {
	case m.name == "password" && t.field("password_hash") != nil:
		p.Mend, p.Meant = "passwords do not stand in a configuration: write password_hash, as `sealpost user add` makes it", ""
	case d.path == "policy" && (m.name == "ignore" || m.name == "reason" || m.name == "expires"):
		p.Mend, p.Meant = "a promise is set aside by a [[policy.rule]] for some domains; for all of them write dane = false or mta_sts = false", ""
	case p.Meant != "":
		p.Mend = "correct it or take it out"
	case len(homes) > 0:
		p.Mend = "it belongs in [" + strings.Join(homes, "] or [") + "]"
	default:
		p.Mend = "take it out, or write one of " + strings.Join(t.names(), ", ")
	}
	d.report.suggest(m.at, p)
}

// homesOf lists the tables that do have a key or table of this name.
func homesOf(name string, t table, path string) []string {
	var homes []string
	if path != "" && (t.field(name) != nil || t.child(name) != nil) {
		homes = append(homes, path)
	}
	for _, i := range t.inner {
		homes = append(homes, homesOf(name, i, join(path, i.name))...)
	}
	return homes
}

// given reports whether the text has a key of a section.
func (d *decoder) given(section any, name string) bool { return d.places[section].member(name) != nil }

// sound reports whether a key of a section has no complaint of its own: only then
// may anything be concluded from its value.
func (d *decoder) sound(section any, names ...string) bool {
	for _, name := range names {
		if m := d.places[section].member(name); m != nil && m.value.bad {
			return false
		}
	}
	return true
}

// at is where to complain of a key: its value, else its table, else the top.
func (d *decoder) at(section any, name string) position {
	n := d.places[section]
	if m := n.member(name); m != nil {
		return m.value.at
	}
	if n != nil {
		return n.at
	}
	return d.top
}
