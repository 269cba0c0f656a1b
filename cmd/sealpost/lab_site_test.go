package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/policytest"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
	"github.com/sealpost/sealpost/relay/relaytest"
)

// labHost is one host of a row.
type labHost struct {
	name  string
	index int // in the farm
	kind  relaytest.Kind
	host  *relaytest.Host
	ca    *policytest.CA // its issuer
	cert  tls.Certificate
	// sni, when set, is the only name for which it shows its certificate.
	sni string
	// acts is more that it does.
	acts []relaytest.Script

	accepted, sessions int // before the step
}

// become makes the host do what its fields say.
func (h *labHost) become() {
	b := h.kind.Behaviour(h.cert)
	if h.sni != "" {
		sni, good, other := h.sni, h.cert, policytest.NewCA().Leaf(policytest.LeafOptions{Names: []string{"default.example"}})
		b.TLS.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if strings.EqualFold(hello.ServerName, sni) {
				return &good, nil
			}
			return &other, nil
		}
	}
	b.Script = relaytest.Scripts(append(slices.Clone(h.acts), b.Script)...)
	h.host.Become(b)
}

// expand puts names in: $D the domain, $H the zone of its hosts, $1 the name of its first
// host, $IP1 its address, $T1 its TLSA name, $P the port.
func (s *labSite) expand(text string) string {
	return labName.ReplaceAllStringFunc(text, func(m string) string {
		port := fmt.Sprint(s.lab.farm.Port)
		switch m {
		case "$D":
			return string(s.domain)
		case "$H":
			return s.zone
		case "$P":
			return port
		}
		h := s.hosts[m[len(m)-1]-'1']
		switch m[1] {
		case 'I':
			return h.host.Addr().Addr().String()
		case 'T':
			return "_" + port + "._tcp." + h.name
		}
		return h.name
	})
}

var labName = regexp.MustCompile(`\$(D|H|P|IP\d|T\d|\d)`)

// script carries out lines that are parted by " / ".
func (s *labSite) script(text string) {
	for line := range strings.SplitSeq(text, " / ") {
		if line = strings.TrimSpace(s.expand(line)); line != "" {
			s.do(line)
		}
	}
}

// do carries out one line:
//
//	unsigned|bogus|signed ZONE        FAULT NAME TYPE (servfail, timeout, badsig, ...)     rm NAME TYPE     heal NAME TYPE
//	tlsa NAME[:PORT] U S M [WHAT[@n]]  of host n: leaf, root, inter; or wrong, short
//	cert n OPTION...                   names=A,B cn=A selfsigned expired future root inter nochain rsa other rekey
//	sni n NAME     act n PHASE REPLY   become n KIND     disconnect n
//	sts ID MODE[:FAULT] PATTERN...     txt TEXT     txts A|B     policy[:FAULT] LINE|LINE
//	or a record
func (s *labSite) do(line string) {
	f := strings.Fields(line)
	z := s.lab.zones
	verb, fault, _ := strings.Cut(f[0], ":")
	switch rest := strings.TrimSpace(strings.TrimPrefix(line, f[0])); verb {
	case "unsigned":
		z.Zone(f[1], policytest.Unsigned)
	case "bogus":
		z.Zone(f[1], policytest.Bogus)
	case "signed":
		z.Zone(f[1], policytest.Signed)
	case "rm":
		z.Remove(f[1], f[2])
	case "heal":
		z.Heal(f[1], f[2])
	case "servfail", "refused", "timeout", "badsig", "truncate", "notimp", "formerr":
		z.Fail(f[1], f[2], map[string]policytest.Fault{"servfail": policytest.ServFail, "refused": policytest.Refused, "timeout": policytest.Timeout,
			"badsig": policytest.BadSignature, "truncate": policytest.Truncate, "notimp": policytest.NotImp, "formerr": policytest.FormErr}[verb])
	case "tlsa":
		s.tlsa(f[1:])
	case "cert":
		s.certificate(s.host(f[1]), f[2:])
	case "sni":
		s.host(f[1]).sni = f[2]
		s.host(f[1]).become()
	case "act":
		h := s.host(f[1])
		reply := strings.ReplaceAll(strings.Join(f[3:], " "), "|", "\n")
		h.acts = append(h.acts, labAct(s.t, f[2], reply))
		h.become()
	case "become":
		h := s.host(f[1])
		h.kind, h.acts = kind(s.t, f[2]), nil
		h.become()
		h.host.Disconnect()
	case "disconnect":
		s.host(f[1]).host.Disconnect()
	case "sts":
		s.lab.announce(s.t, append([]string{string(s.domain)}, f[1:]...))
	case "txt":
		z.TXT("_mta-sts."+string(s.domain), rest)
	case "txts":
		z.TXT("_mta-sts."+string(s.domain), strings.Split(rest, "|")...)
	case "policy":
		s.policy(fault, rest)
	default:
		z.Add(line)
	}
}

func (s *labSite) host(n string) *labHost { return s.hosts[n[0]-'1'] }

// labAct is a reply in a phase; "CLEAR-" before it: in clear only.
func labAct(t tb, phase, reply string) relaytest.Script {
	name, inClear := strings.CutPrefix(phase, "CLEAR-")
	for p := relaytest.Greeting; p <= relaytest.Unknown; p++ {
		if p.String() == name {
			script := relaytest.At(p, relaytest.Act{Reply: reply})
			if inClear {
				return relaytest.InClear(script)
			}
			return script
		}
	}
	t.Fatalf("no phase %q", phase)
	return nil
}

// tlsa publishes a record.
func (s *labSite) tlsa(f []string) {
	name, portText, given := strings.Cut(f[0], ":")
	port := s.lab.farm.Port
	if given {
		n, _ := strconv.Atoi(portText)
		port = uint16(n)
	}
	var field [3]uint8
	for i := range field {
		n, _ := strconv.Atoi(f[1+i])
		field[i] = uint8(n)
	}
	what, of := "leaf", ""
	if field[0] == 2 || field[0] == 0 {
		what = "root"
	}
	if len(f) > 4 {
		what, of, _ = strings.Cut(f[4], "@")
	}
	h := s.host(cmp.Or(of, "1"))
	if i := slices.IndexFunc(s.hosts, func(h *labHost) bool { return h.name == name }); i >= 0 && of == "" {
		h = s.hosts[i]
	}
	cert := h.cert.Leaf
	switch what {
	case "root":
		cert = s.lab.ca.Certificate()
	case "inter":
		cert = h.ca.Certificate()
	}
	r := policytest.TLSA(cert, field[0], field[1], field[2])
	switch what {
	case "wrong":
		r.Data = make([]byte, len(r.Data))
	case "short":
		r.Data = r.Data[:len(r.Data)-1]
	case "long":
		r.Data = append(slices.Clone(r.Data), 0)
	}
	s.lab.zones.TLSA(name, port, r)
}

// certificate gives a host another certificate.
func (s *labSite) certificate(h *labHost, options []string) {
	o := policytest.LeafOptions{Names: []string{h.name}}
	for _, opt := range options {
		key, value, _ := strings.Cut(opt, "=")
		switch key {
		case "names":
			o.Names = slices.DeleteFunc(strings.Split(value, ","), func(n string) bool { return n == "" })
		case "cn":
			o.CommonName = value
		case "selfsigned":
			o.SelfSigned = true
		case "expired":
			o.NotBefore, o.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
		case "future":
			o.NotBefore, o.NotAfter = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
		case "root":
			o.WithRoot = true
		case "inter":
			h.ca = s.lab.ca.Intermediate()
		case "other":
			h.ca = policytest.NewCA()
		case "otherinter":
			h.ca = policytest.NewCA().Intermediate()
		case "nochain":
			o.WithoutChain = true
		case "rsa":
			o.Key = policytest.RSA2048
		case "ed25519":
			o.Key = policytest.Ed25519
		case "samekey":
			o.Signer = h.cert.PrivateKey.(crypto.Signer)
		default:
			s.t.Fatalf("no option of a certificate is called %q", opt)
		}
	}
	h.cert = h.ca.Leaf(o)
	h.become()
}

// policy serves a policy's text: lines parted by "|", each ended by CRLF; "\n" within is LF.
func (s *labSite) policy(fault, text string) {
	f, ok := labFaults[fault]
	if !ok {
		s.t.Fatalf("no fault of a policy host is called %q", fault)
	}
	host := "mta-sts." + string(s.domain)
	s.lab.zones.Remove(host, "A")
	s.lab.zones.A(host, s.lab.web.Addr().Addr().String())
	s.lab.web.SetFault(string(s.domain), strings.NewReplacer("|", "\r\n", `\n`, "\n", `\t`, "\t", `\r`, "\r", `\0`, "\x00").Replace(text), f)
}

var labFaults = map[string]policytest.STSFault{
	"": policytest.STSGood, "404": policytest.STSNotFound, "503": policytest.STSUnavailable, "204": policytest.STSNoContent, "206": policytest.STSPartial,
	"302": policytest.STSRedirect, "308": policytest.STSMoved, "html": policytest.STSHTML, "notype": policytest.STSNoType, "charset": policytest.STSCharset,
	"large": policytest.STSTooLarge, "full": policytest.STSFull, "bomb": policytest.STSBomb, "truncated": policytest.STSTruncated, "reset": policytest.STSReset,
	"stall": policytest.STSStall, "largeheader": policytest.STSLargeHeader, "expired": policytest.STSExpired, "future": policytest.STSNotYetValid,
	"selfsigned": policytest.STSSelfSigned, "wrongname": policytest.STSWrongName, "parentname": policytest.STSParentName, "cn": policytest.STSCommonName,
	"deepwild": policytest.STSDeepWildcard, "wild": policytest.STSWildcard, "otherwild": policytest.STSOtherWildcard, "nosni": policytest.STSNoSNIMatch,
	"tls11": policytest.STSOldTLS,
}

// retry makes the message that waits due now.
func (s *labSite) retry() {
	_, err := s.lab.house.queue.Act(s.t.Context(), queue.Action{Verb: queue.VerbRetry}, queue.Filter{Domain: string(s.domain)})
	if err != nil {
		s.t.Fatal(err)
	}
}

// check judges an attempt. want is a list of words: d, f or b (delivered, deferred,
// bounced), then the level that was reached or the reason, the enhanced status,
// "mx2" for the host that took it, "!mx1" for a host that nobody may have connected to,
// "basis=" and who set the floor, "param=" and whether REQUIRETLS was passed on, "sts="
// and the policy's mode, "#" and the number of overrides, "clear" where clear text was tried.
func (s *labSite) check(want string, a *relay.Attempt) {
	words := strings.Fields(want)
	s.arrived(a, words[0] == "d")
	got := string("fdb"[a.Outcomes[0].Kind])
	if got != words[0] {
		s.t.Errorf("step %d: outcome %s, want %q: %s", s.sent, got, want, describe(a))
	}
	taker, plain := "", false
	for _, w := range words[1:] {
		_, noLevel := policy.ParseLevel(strings.Split(w, "|")[0])
		ok := true
		switch {
		case strings.HasPrefix(w, "mx"):
			taker = w
		case w == "clear":
			plain = true
		case strings.HasPrefix(w, "param="):
			ok = s.param() == w[len("param="):]
		case strings.HasPrefix(w, "sts="):
			ok = a.STSMode.String() == w[len("sts="):]
		case strings.HasPrefix(w, "!mx"):
			h := s.host(w[3:])
			ok = len(h.host.Sessions()) == h.sessions
		case strings.HasPrefix(w, "basis="):
			ok = slices.Contains(strings.Split(w[len("basis="):], "|"), a.Basis.String())
		case noLevel == nil:
			ok = slices.Contains(strings.Split(w, "|"), a.Achieved.String())
			plain = plain || w == "plaintext"
		case w[0] == '4' || w[0] == '5':
			ok = a.Outcomes[0].Status == w
		case w[0] == '#':
			n, _ := strconv.Atoi(w[1:])
			ok = len(a.Overrides) == n
		default:
			ok = slices.Contains(strings.Split(w, "|"), a.Outcomes[0].Reason.String())
		}
		if !ok {
			s.t.Errorf("step %d: want %s of %q (%s): %s", s.sent, w, want, a.Outcomes[0].Status, describe(a))
		}
	}
	s.invariants(taker, plain, words[0] == "d", a)
}

// param is the REQUIRETLS of the last message that was taken, "" when it had none.
func (s *labSite) param() string {
	for _, h := range s.hosts {
		if taken := h.host.Accepted()[h.accepted:]; len(taken) > 0 && slices.Contains(taken[0].FromParams, "REQUIRETLS") {
			return "REQUIRETLS"
		}
	}
	return ""
}

// invariants hold whatever a row is about: nothing in clear where the row does not say
// so, no envelope to a host that was not good enough, one copy.
func (s *labSite) invariants(taker string, plain, delivered bool, a *relay.Attempt) {
	copies := 0
	for i, h := range s.hosts {
		for _, b := range h.host.Breaches() {
			s.t.Errorf("mx%d saw a breach of the protocol: %s", i+1, b)
		}
		envelopes, started := 0, map[int]bool{} // sessions in which a handshake was to begin
		for _, c := range h.host.Commands()[s.mark[i]:] {
			if strings.EqualFold(c.Line, "STARTTLS") && strings.HasPrefix(c.Reply, "220") {
				started[c.Session] = true
			}
			if started[c.Session] && !c.Secure && !strings.EqualFold(c.Line, "STARTTLS") {
				s.t.Errorf("step %d: mx%d heard %.20q in clear behind STARTTLS (RFC 3207 4)", s.sent, i+1, c.Line)
			}
			if !labEnvelope.MatchString(c.Line) {
				continue
			}
			envelopes++
			if !c.Secure && !plain {
				s.t.Errorf("step %d: in clear at mx%d: %.20q", s.sent, i+1, c.Line)
			}
		}
		if !delivered && a.Outcomes[0].Code == 0 && a.Outcomes[0].Reason != policy.Uncertain && envelopes > 0 {
			s.t.Errorf("step %d: an envelope was sent to mx%d, which was not good enough", s.sent, i+1)
		}
		taken := h.host.Accepted()[h.accepted:]
		copies += len(taken)
		if len(taken) > 0 && taker != "" && !slices.Contains(strings.Split(taker, "|"), "mx"+strconv.Itoa(i+1)) {
			s.t.Errorf("step %d: mx%d took it, want %s: %s", s.sent, i+1, taker, describe(a))
		}
		for _, m := range taken {
			if level := labLeast(m.TLS); a.Achieved > level {
				s.t.Errorf("step %d: the relay claims %s, and mx%d saw TLS %#x", s.sent, a.Achieved, i+1, m.TLS)
			}
		}
	}
	if delivered != (copies == 1) {
		s.t.Errorf("step %d: %d copies were taken: %s", s.sent, copies, describe(a))
	}
}

// arrived waits until the host that said that it took the message has noted so.
func (s *labSite) arrived(a *relay.Attempt, delivered bool) {
	if !delivered || len(a.Trace) == 0 {
		return
	}
	addr := a.Trace[len(a.Trace)-1].Addr
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	for _, h := range s.hosts {
		if h.host.Addr() == addr {
			_, _ = h.host.Await(ctx, h.accepted+1) // who counts the copies says what is wrong
		}
	}
}

var labEnvelope = regexp.MustCompile(`(?i)^(MAIL|RCPT|DATA|BDAT)`)

// labLeast is the best level that a TLS version can be good for.
func labLeast(version uint16) policy.Level {
	switch {
	case version == 0:
		return policy.Plaintext
	case version < tls.VersionTLS12:
		return policy.Legacy
	}
	return policy.DANE
}
