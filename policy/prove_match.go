package policy

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// What a rule is for is a product of five lists. Each list is a finite union of patterns,
// and of all deliveries that a pattern takes one is the hardest for the rules before it to
// take away: the name itself, a fresh label below a suffix, a fresh value where there is no
// list. So a rule can match if and only if one of finitely many deliveries reaches it.

// The dimensions of a match.
const (
	inDomain = iota
	inSender
	inCredential
	inStream
	inMX
	dimensions
)

// list returns one dimension's list, and whether it holds domains.
func (m *Match) list(dimension int) (list []string, domains bool) {
	switch dimension {
	case inDomain:
		return m.Domains, true
	case inSender:
		return m.Senders, true
	case inCredential:
		return m.Credentials, false
	case inStream:
		return m.Streams, false
	default:
		return m.MX, true
	}
}

// set is a set of rules by index.
type set []uint64

func newSet(n int) set    { return make(set, (n+63)/64) }
func (s set) add(i int)   { s[i/64] |= 1 << (i % 64) }
func (s set) key() string { return string(s.bytes(nil)) }
func (s set) empty() bool { return s.first() < 0 }
func (s set) clone() set  { return slices.Clone(s) }
func (s set) keep(o set)  { s.each(o, func(a, b uint64) uint64 { return a & b }) }
func (s set) join(o set)  { s.each(o, func(a, b uint64) uint64 { return a | b }) }
func (s set) has(o set) bool { // o is a part of s
	for i := range s {
		if o[i]&^s[i] != 0 {
			return false
		}
	}
	return true
}

func (s set) each(o set, f func(a, b uint64) uint64) {
	for i := range s {
		s[i] = f(s[i], o[i])
	}
}

// first is the lowest member, -1 for none.
func (s set) first() int {
	for i, w := range s {
		if w != 0 {
			return i*64 + bits.TrailingZeros64(w)
		}
	}
	return -1
}

func (s set) bytes(b []byte) []byte {
	for _, w := range s {
		for i := range 8 {
			b = append(b, byte(w>>(8*i)))
		}
	}
	return b
}

// index finds, in one dimension, the rules that take all that a pattern takes.
type index struct {
	domains bool
	open    set            // rules without a list: they take everything
	by      map[string]set // rules by the patterns of their lists
}

func newIndex(rules []Rule, dimension int) index {
	x := index{open: newSet(len(rules)), by: map[string]set{}}
	for i := range rules {
		var list []string
		if list, x.domains = rules[i].Match.list(dimension); len(list) == 0 {
			x.open.add(i)
		}
		for _, p := range list {
			s := x.by[p]
			if s == nil {
				s = newSet(len(rules))
				x.by[p] = s
			}
			s.add(i)
		}
	}
	return x
}

// taking joins to into the rules whose lists take all of a pattern; fresh stands for a
// value that no list knows.
func (x *index) taking(p pattern, into set) {
	into.join(x.open)
	if p.fresh {
		return
	}
	if s := x.by[p.text]; s != nil {
		into.join(s)
	}
	if !x.domains {
		return
	}
	for rest := strings.TrimPrefix(p.text, "."); ; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return
		}
		if s := x.by[rest[dot:]]; s != nil {
			into.join(s)
		}
		rest = rest[dot+1:]
	}
}

// sample is a value that stands for a pattern.
func (x *index) sample(p pattern, fresh ...string) string {
	free := func(s string) bool {
		got := newSet(64 * len(x.open))
		x.taking(pattern{text: s}, got)
		return x.open.has(got)
	}
	switch {
	case !p.fresh && (!x.domains || !strings.HasPrefix(p.text, ".")):
		return p.text
	case !p.fresh:
		for i := 0; ; i++ {
			name := numbered("mail", i) + p.text
			if x.by[name] == nil {
				return name
			}
		}
	}
	for _, s := range fresh {
		if free(s) {
			return s
		}
	}
	for i := 0; ; i++ {
		if s := numbered("x", i) + "." + numbered("fresh", i); free(s) {
			return s
		}
	}
}

func numbered(word string, i int) string {
	if i == 0 {
		return word
	}
	return word + strconv.Itoa(i)
}

// pattern is an item of a list, or what stands for "any" where there is no list.
type pattern struct {
	text  string
	fresh bool
}

func patterns(list []string) []pattern {
	if len(list) == 0 {
		return []pattern{{fresh: true}}
	}
	all := make([]pattern, len(list))
	for i, p := range list {
		all[i] = pattern{text: p}
	}
	return all
}

// point is one delivery, by its pattern in each dimension.
type point [dimensions]pattern

// leaf is a point that no rule reaches because earlier ones take it.
type leaf struct {
	at point
	by int
}

// cover is what came of looking for a delivery that earlier rules leave.
type cover struct {
	left   *point // one that they leave; nil: none
	common set    // rules that take every point alone
	leaves []leaf // else, some points with the rule that takes each
	gaveUp bool   // too many combinations: not known
}

// maxLeaves bounds how many examples are kept, maxNodes the combinations that are looked at
// for one rule. Real rules need a handful.
const (
	maxLeaves = 8
	maxNodes  = 20_000
)

// reach looks for deliveries that reach a rule.
type reach struct {
	rules   []Rule
	indexes [dimensions]index
}

func newReach(rules []Rule) *reach {
	r := &reach{rules: rules}
	for d := range r.indexes {
		r.indexes[d] = newIndex(rules, d)
	}
	return r
}

// group are the domains of a rule that the same earlier rules take.
type group struct {
	by    set
	items []int // of Match.Domains
	at    pattern
	cover cover
}

// groups gathers the domains of rule i by the earlier rules that take them, and says of
// each group whether a delivery to it reaches the rule. It is linear in the domains.
func (r *reach) groups(i int) []*group {
	m := &r.rules[i].Match
	before := newSet(len(r.rules))
	for j := range i {
		before.add(j)
	}
	found := map[string]*group{}
	var list []*group
	by, key := newSet(len(r.rules)), []byte(nil)
	for k, p := range patterns(m.Domains) {
		clear(by)
		r.indexes[inDomain].taking(p, by)
		by.keep(before)
		key = by.bytes(key[:0])
		g := found[string(key)]
		if g == nil {
			g = &group{by: by.clone(), at: p}
			found[string(key)] = g
			list = append(list, g)
		}
		g.items = append(g.items, k)
	}
	s := search{reach: r, match: m, memo: map[string]cover{}}
	for _, g := range list {
		g.cover = s.look(inDomain+1, g.by)
		g.cover = g.cover.at(inDomain, g.at)
	}
	return list
}

// search is a walk over the combinations of the other dimensions.
type search struct {
	*reach
	match *Match
	memo  map[string]cover
	nodes int
}

// look says whether some combination, from a dimension on, is left by rules that take all
// of it so far.
func (s *search) look(dimension int, by set) cover {
	switch {
	case by.empty():
		var left point
		for d := dimension; d < dimensions; d++ {
			list, _ := s.match.list(d)
			left[d] = patterns(list)[0]
		}
		return cover{left: &left}
	case dimension == dimensions:
		return cover{common: by, leaves: []leaf{{by: by.first()}}}
	}
	key := string(rune(dimension)) + by.key()
	if c, ok := s.memo[key]; ok {
		return c
	}
	if s.nodes++; s.nodes > maxNodes {
		return cover{gaveUp: true}
	}
	c := cover{common: by}
	for _, g := range s.split(dimension, by) {
		sub := s.look(dimension+1, g.by).at(dimension, g.at)
		if sub.left != nil {
			c = sub
			break
		}
		c.gaveUp = c.gaveUp || sub.gaveUp
		if !sub.gaveUp {
			c.common = c.common.clone()
			c.common.keep(sub.common)
		}
		c.leaves = append(c.leaves, sub.leaves...)
	}
	c.leaves = distinct(c.leaves)
	s.memo[key] = c
	return c
}

// distinct keeps one example for each rule that takes something.
func distinct(leaves []leaf) []leaf {
	var kept []leaf
	for _, l := range leaves {
		if len(kept) < maxLeaves && !slices.ContainsFunc(kept, func(k leaf) bool { return k.by == l.by }) {
			kept = append(kept, l)
		}
	}
	return kept
}

// split gathers the patterns of a dimension by the rules that take them. Where the rules
// of one are among those of another, the other is left out: whatever is left there is left
// here too.
func (s *search) split(dimension int, by set) []group {
	list, _ := s.match.list(dimension)
	var all []group
next:
	for _, p := range patterns(list) {
		got := newSet(len(s.rules))
		s.indexes[dimension].taking(p, got)
		got.keep(by)
		for i := range all {
			if got.has(all[i].by) {
				continue next
			}
		}
		all = slices.DeleteFunc(all, func(g group) bool { return g.by.has(got) })
		all = append(all, group{by: got, at: p})
	}
	return all
}

// at puts a pattern into all points.
func (c cover) at(dimension int, p pattern) cover {
	if c.left != nil {
		left := *c.left
		left[dimension] = p
		c.left = &left
	}
	c.leaves = slices.Clone(c.leaves)
	for i := range c.leaves {
		c.leaves[i].at[dimension] = p
	}
	return c
}

// takers are the rules that take everything: one where one does it alone.
func (c *cover) takers() []leaf {
	if one := c.common.first(); one >= 0 && len(c.leaves) > 0 {
		return []leaf{{at: c.leaves[0].at, by: one}}
	}
	return c.leaves
}

// delivery makes a query of a point, and the host for it.
func (r *reach) delivery(p *point) (Query, Domain) {
	q := Query{
		Domain:     Domain(r.indexes[inDomain].sample(p[inDomain], "x.example", "x.test")),
		Sender:     r.indexes[inSender].sample(p[inSender], "sender.example", "sender.test"),
		Credential: r.indexes[inCredential].sample(p[inCredential], "", "anybody"),
		Stream:     r.indexes[inStream].sample(p[inStream], "", "anything"),
	}
	host := Domain(r.indexes[inMX].sample(p[inMX], "mx."+string(q.Domain), "mx.example", "mx.test"))
	return q, host
}

// say describes a point, as in "mail to a.example from b.example".
func (r *reach) say(p *point) string {
	q, host := r.delivery(p)
	s := "mail to " + string(q.Domain)
	parts := [dimensions]string{inSender: " from " + q.Sender, inCredential: " of credential " + strconv.Quote(q.Credential),
		inStream: " in stream " + strconv.Quote(q.Stream), inMX: " at the host " + string(host)}
	for d, part := range parts {
		if !p[d].fresh {
			s += part
		}
	}
	return s
}
