package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// settler fills in what depends on other keys, and judges what no key can judge
// alone. It draws conclusions only from values without a complaint of their own.
type settler struct {
	*decoder
	config *Config
	bounds []bound // listeners seen so far
}

func (s *settler) settle() {
	s.server()
	s.submission()
	s.credentials()
	s.http()
	s.delivery()
	s.providers()
	s.retry()
	s.queue()
	s.policy()
}

// wrong complains of a key of a section.
func (s *settler) wrong(section any, name, what, mend string) {
	s.report.add(s.at(section, name), what, mend)
}

func (s *settler) server() {
	c := &s.config.Server
	if c.Hostname == "" {
		c.Hostname = machineName(os.Hostname, "/etc/hosts")
	}
	if !strings.Contains(c.Hostname, ".") && s.sound(c, "hostname") {
		s.report.note(s.at(c, "hostname"), fmt.Sprintf("the host name %q is no full name", c.Hostname),
			"set server.hostname: many hosts refuse such an EHLO (RFC 5321 4.1.1.1)")
	}
	if c.DataDir == "" {
		s.wrong(c, "data_dir", "server.data_dir is empty", `write a directory, as in "./sealpost-data"`)
	}
}

// machineName is the machine's full name as far as it is known without asking
// anybody: its own name, completed from the hosts file as `hostname -f` does.
func machineName(own func() (string, error), hosts string) string {
	const unknown = "localhost"
	name, err := own()
	if err != nil {
		return unknown
	}
	name, err = parseHostname(strings.TrimSuffix(name, "."))
	if err != nil {
		return unknown
	}
	if strings.Contains(name, ".") {
		return name
	}
	text, err := readFile(hosts, maxText)
	if err != nil {
		return name
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		for _, w := range words {
			full, err := parseHostname(w)
			if err == nil && strings.HasPrefix(full, name+".") {
				return full
			}
		}
	}
	return name
}

func (s *settler) credentials() {
	lines := map[string]int{}
	for i := range s.config.Credentials {
		c := &s.config.Credentials[i]
		if c.Name == "" && s.sound(c, "name") {
			s.wrong(c, "name", "the credential has no name", `write name = "..."`)
		} else if first, twice := lines[c.Name]; twice {
			s.wrong(c, "name", fmt.Sprintf("a credential named %q is there already", c.Name),
				fmt.Sprintf("rename it or take it out (the first is in line %d)", first))
		} else if c.Name != "" {
			lines[c.Name] = s.at(c, "name").line
		}
		if c.PasswordHash == "" && c.SCRAM == "" && s.sound(c, "password_hash", "scram") {
			s.wrong(c, "password_hash", "the credential has no password_hash", "make one with `sealpost user add`")
		}
	}
}

func (s *settler) http() {
	h := &s.config.HTTP
	s.listener(h, "http", h.Listen)
	if h.AdminTokenFile == "" {
		return
	}
	if text, err := readFile(h.AdminTokenFile, 64<<10); err != nil {
		s.wrong(h, "admin_token_file", fmt.Sprintf("http.admin_token_file %q cannot be read: %v", clip(h.AdminTokenFile), err),
			"give the path of a readable file")
	} else if len(strings.TrimSpace(string(text))) < minToken {
		s.wrong(h, "admin_token_file", fmt.Sprintf("http.admin_token_file %q holds no token of %d characters or more", clip(h.AdminTokenFile), minToken),
			"write a random one into it, as `openssl rand -hex 32` makes it")
	}
}

// minToken is the least length of the admin token: who may guess it may drop mail.
const minToken = 16

func (s *settler) delivery() {
	d := &s.config.Delivery
	if d.CAFile != "" {
		s.roots(d)
	} else if d.CAFileOnly && s.sound(d, "ca_file", "ca_file_only") {
		s.wrong(d, "ca_file_only", "delivery.ca_file_only is set, and there is no ca_file",
			"set ca_file: without any roots nothing can be verified")
	}
}

// providers complains of what no host can ever be.
func (s *settler) providers() {
	lines := map[string]int{}
	for i := range s.config.Delivery.Providers {
		p := &s.config.Delivery.Providers[i]
		if !s.sound(p, "match") {
			continue
		}
		if len(p.Match) == 0 {
			s.wrong(p, "match", "the provider names no hosts", `write match = [".google.com"]`)
		}
		for _, m := range p.Match {
			if first, twice := lines[m]; twice {
				s.wrong(p, "match", fmt.Sprintf("a provider with %q is there already", m), fmt.Sprintf("take it out (the first is in line %d)", first))
			}
			lines[m] = s.at(p, "match").line
		}
	}
}

func (s *settler) retry() {
	r := &s.config.Retry
	if !s.sound(r, "schedule") {
		return
	}
	if len(r.Schedule) == 0 {
		s.wrong(r, "schedule", "retry.schedule is empty", `write at least one delay, as in ["10m"]`)
		return
	}
	if !s.sound(r, "give_up") {
		return
	}
	if r.Schedule[0] >= r.GiveUp {
		name := "give_up"
		if !s.given(r, name) {
			name = "schedule"
		}
		s.wrong(r, name, fmt.Sprintf("mail is given up after %s, before its first retry after %s",
			writeDuration(r.GiveUp), writeDuration(r.Schedule[0])), "make retry.give_up longer than the first delay")
	}
	if s.given(r, "warn_after") && s.sound(r, "warn_after") && r.WarnAfter >= r.GiveUp {
		s.wrong(r, "warn_after", fmt.Sprintf("retry.warn_after %s is not before give_up %s", writeDuration(r.WarnAfter), writeDuration(r.GiveUp)),
			`make it shorter, or write "0s" for no warning`)
	} else if r.WarnAfter >= r.GiveUp && s.sound(r, "warn_after") {
		r.WarnAfter = 0 // the default says nothing about so short a life
	}
}

func (s *settler) queue() {
	q := &s.config.Queue
	if q.Store == StorePostgres {
		s.wrong(q, "store", `queue.store "postgres" is not available in this version`, `write "pebble"`)
	}
	s.encryption()
}

func (s *settler) encryption() {
	e := &s.config.Queue.Encryption
	if !s.sound(e, "enabled") {
		return
	}
	if !e.Enabled {
		s.report.note(s.at(e, "enabled"), "the queue is not encrypted on disk", "keep data_dir on an encrypted disk where that matters")
		if e.RefusePlain {
			s.wrong(e, "refuse_plain", "queue.encryption.refuse_plain is set, and encryption is off: all mail would be refused", "take it out, or write enabled = true")
		}
		return
	}
	if e.KeyDir == "" || !s.sound(e, "key_dir") {
		return
	}
	what := fmt.Sprintf("queue.encryption.key_dir %q ", clip(e.KeyDir))
	switch info, err := os.Stat(e.KeyDir); {
	case err == nil && !info.IsDir():
		s.wrong(e, "key_dir", what+"is no directory", "give a directory of its own; it is made when it is missing")
	case within(e.KeyDir, s.config.QueueDir()):
		s.wrong(e, "key_dir", what+"is inside the queue's directory: a backup of the queue would hold its keys",
			"give another directory, or leave it out")
	case within(s.config.Server.DataDir, e.KeyDir):
		s.wrong(e, "key_dir", what+"holds data_dir: keys need a directory of their own", "give another directory, or leave it out")
	}
}

// within reports whether a path is a directory or lies below it.
func within(path, dir string) bool {
	path, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return false
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// bound is a listener that was seen.
type bound struct {
	addr netip.AddrPort
	name string
	line int
}

func (b bound) clashes(o bound) bool {
	if b.addr.Port() != o.addr.Port() || b.addr.Port() == 0 {
		return false
	}
	x, y := b.addr.Addr(), o.addr.Addr()
	// The unspecified IPv6 address takes IPv4 too, as Go listens on it.
	return x == y || x.IsUnspecified() && (x.Is6() || y.Is4()) || y.IsUnspecified() && (y.Is6() || x.Is4())
}

// listener remembers an address to listen on, and complains of a second one that
// cannot be had beside it.
func (s *settler) listener(section any, name, address string) {
	addr, err := netip.ParseAddrPort(address)
	if err != nil || !s.sound(section, "listen") {
		return
	}
	b := bound{addr, name, s.at(section, "listen").line}
	for _, o := range s.bounds {
		if b.clashes(o) {
			where := "by default"
			if o.line > 0 {
				where = fmt.Sprintf("in line %d", o.line)
			}
			s.wrong(section, "listen", fmt.Sprintf("%s.listen %q is taken by [%s] %s", name, address, o.name, where),
				"choose another address or port")
			return
		}
	}
	s.bounds = append(s.bounds, b)
}
