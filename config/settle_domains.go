package config

import (
	"fmt"
	"strings"
)

// maxDomains bounds a file of domains: a million of them, as a rule.
const maxDomains = 64 << 20

// domainFile is what a file of domains holds.
type domainFile struct {
	path    string
	domains []string
	lines   []int // of the domains
}

// place is where the i-th domain stands.
func (f *domainFile) place(i int) position { return position{f.path, f.lines[i], 1} }

// domainFile reads a rule's file of recipient domains: one a line, in the forms of
// match.domain. A bad line is a problem of that file; and nothing is concluded from the
// rule then. A file without any domain would make it a rule for everybody: it is refused.
func (s *settler) domainFile(r *writtenRule) (list domainFile) {
	m := &r.match
	if !s.sound(m, "domain_file") {
		return list
	}
	list.path = m.file
	bad := func() { s.places[m].member("domain_file").value.bad = true }
	text, err := readFile(m.file, maxDomains)
	if err != nil {
		s.wrong(m, "domain_file", fmt.Sprintf("policy.rule.match.domain_file %q cannot be read: %v", clip(m.file), err), "give the path of a readable file, one domain a line")
		bad()
		return list
	}
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		n++
		line, _, _ = strings.Cut(line, "#")
		word := strings.TrimSpace(line)
		if word == "" {
			continue
		}
		domain, err := parsePattern(word)
		if err != nil {
			s.report.add(position{m.file, n, 1 + strings.Index(line, word)}, fmt.Sprintf("%q %v", clip(nobody(word)), err), mendPattern+", one a line")
			bad()
			continue
		}
		list.domains, list.lines = append(list.domains, domain), append(list.lines, n)
	}
	if len(list.domains) == 0 && s.sound(m, "domain_file") {
		s.wrong(m, "domain_file", fmt.Sprintf("policy.rule.match.domain_file %q holds no domain", clip(m.file)), "write one a line, or take the rule out")
		bad()
	}
	return list
}

// nobody takes the person out of what may be an address: problems of a reload are logged.
func nobody(word string) string {
	if at := strings.LastIndexByte(word, '@'); at >= 0 {
		return "..." + word[at:]
	}
	return word
}
