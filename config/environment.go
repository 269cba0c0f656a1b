package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// prefix and parting of the variables: SEALPOST_DELIVERY__PORT is delivery.port.
// Variables of ours without the parting (which Kubernetes makes for services) are
// not meant for us.
const (
	variablePrefix = "SEALPOST_"
	variableParts  = "__"
)

// override is one variable of the environment on its way into the tree.
type override struct {
	name, value string
	report      *report
}

// overrideFrom puts the variables into the tree, in place of what the text says.
func overrideFrom(env []string, tree *node, r *report) {
	ours := slices.Sorted(func(yield func(string) bool) {
		for _, v := range env {
			name, _, _ := strings.Cut(v, "=")
			rest, ok := strings.CutPrefix(name, variablePrefix)
			if ok && strings.Contains(rest, variableParts) && !yield(v) {
				return
			}
		}
	})
	for _, v := range ours {
		name, value, _ := strings.Cut(v, "=")
		o := override{name, value, r}
		path := strings.Split(strings.ToLower(strings.TrimPrefix(name, variablePrefix)), variableParts)
		o.apply(schema(), tree, path)
	}
}

func (o override) at() position { return position{file: o.name} }

// apply walks the path down from a table.
func (o override) apply(t table, n *node, path []string) {
	name := path[0]
	if len(path) == 1 {
		if t.field(name) == nil && t.child(name) == nil {
			o.unknown(t, path[0])
			return
		}
		n.set(&member{name, o.at(), o.parse()})
		return
	}
	child := t.child(name)
	if child == nil {
		o.unknown(t, name)
		return
	}
	path = path[1:]
	m := n.member(name)
	if m == nil {
		v := &node{at: o.at(), shape: isTable, open: true}
		if child.many {
			v.shape = isList
		}
		m = &member{name, o.at(), v}
		n.keys = append(n.keys, m)
	}
	into := m.value
	if child.many && into.shape == isList {
		into, path = o.item(into, path)
	}
	if into == nil || into.shape != isTable || len(path) == 0 {
		return // the text is wrong here, which is complained of in its place
	}
	o.apply(*child, into, path)
}

// item chooses one of several tables: the number in the path, from 0, or the only one.
func (o override) item(list *node, path []string) (*node, []string) {
	i, err := strconv.Atoi(path[0])
	switch {
	case err == nil && len(path) == 1:
		o.report.add(o.at(), "the variable names no key", "write "+o.name+"__KEY")
		return nil, nil
	case err == nil:
		path = path[1:]
	case len(list.items) > 1:
		o.report.add(o.at(), fmt.Sprintf("the variable does not say which of the %d tables it is for", len(list.items)),
			"put the number, from 0, before the key: __0__")
		return nil, nil
	}
	if i < 0 || i > len(list.items) {
		o.report.add(o.at(), fmt.Sprintf("there is no table number %d", i), fmt.Sprintf("count from 0: there are %d", len(list.items)))
		return nil, nil
	}
	if i == len(list.items) {
		list.items = append(list.items, &node{at: o.at(), shape: isTable, open: true})
	}
	return list.items[i], path
}

// parse reads a list or an inline table as TOML, all else as text that may stand
// for any scalar.
func (o override) parse() *node {
	loose := &node{at: o.at(), shape: isLoose, text: o.value}
	if v := strings.TrimSpace(o.value); !strings.HasPrefix(v, "[") && !strings.HasPrefix(v, "{") {
		return loose
	}
	b := newBuilder(o.name, slices.Clip([]byte("x = "+o.value)), nil)
	fault, _ := b.build()
	m := b.root.member("x")
	if fault != nil || m == nil || len(b.root.keys) != 1 {
		return loose
	}
	o.report.problems = append(o.report.problems, b.report.problems...)
	m.value.moveTo(o.at())
	return m.value
}

// moveTo puts a value and all in it at one place.
func (n *node) moveTo(at position) {
	n.at = at
	for _, i := range n.items {
		i.moveTo(at)
	}
	for _, k := range n.keys {
		k.at = at
		k.value.moveTo(at)
	}
}

// set adds a key or takes the place of one.
func (n *node) set(m *member) {
	for i := range n.keys {
		if n.keys[i].name == m.name {
			n.keys[i] = m
			return
		}
	}
	n.keys = append(n.keys, m)
}

func (o override) unknown(t table, name string) {
	p := Problem{What: fmt.Sprintf("the variable names the unknown key %q", name),
		Mend: "unset it, or write " + variablePrefix + "SECTION" + variableParts + "KEY with the words of the configuration"}
	p.Meant = strings.ToUpper(nearest(name, t.names()))
	o.report.suggest(o.at(), p)
}
