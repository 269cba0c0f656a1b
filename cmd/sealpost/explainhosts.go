package main

import (
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// details are the facts about the domain, one a line.
func (e *explained) details(b *page) {
	f := &e.Facts
	b.gap()
	b.para("", "Domain "+string(e.Asked.Domain))
	if !f.Operator {
		b.row("  ", "MX", lookupWords(f.MX)+mxCount(f))
		if f.Expanded != "" && f.Expanded != f.Domain {
			b.row("  ", "alias of", string(f.Expanded)+" (CNAME)")
		}
		b.row("  ", "DNSSEC", map[bool]string{true: "available: the resolver is trusted and passes its self-test", false: "not available now"}[f.DNSSEC])
	}
	if s := &f.STS; s.Mode != policy.STSAbsent {
		b.row("  ", "MTA-STS", fmt.Sprintf("mode %s, id %s, hosts %s; fetched %s, good until %s", s.Mode, s.ID, strings.Join(s.MX, " "), onDate(s.Fetched), onDate(s.Expires)))
	}
	if s := &f.STS; s.Record.Answer != policy.Unknown || s.Record.Problem != "" {
		b.row("  ", "_mta-sts", "TXT: "+lookupWords(s.Record))
	}
	b.row("  ", "rule", ruleWords(&e.Rules.Rule))
	if e.Plan.Refusal == nil || len(e.Plan.Targets) > 0 {
		b.row("  ", "asked for", relay.FloorWords(e.Plan.Floor)+", "+relay.BasisWords(e.Plan.Basis, e.Plan.Rule)+" (a host's own promise can raise it, see below)")
	}
}

func mxCount(f *policy.Facts) string {
	switch {
	case f.NullMX:
		return "; null MX"
	case f.Implicit:
		return "; the domain is its own host"
	case f.MX.Answer == policy.Records:
		return fmt.Sprintf("; hosts to try: %d", len(f.Hosts))
	}
	return ""
}

func ruleWords(r *relay.RuleView) string {
	s := r.Name
	if r.Note != "" && !strings.Contains(s, r.Note) {
		s += " (" + r.Note + ")"
	}
	s += fmt.Sprintf(": floor %s, on_unmet %s, downgrade_hold %s", r.Floor, r.OnUnmet, r.Hold)
	if r.Ignore != 0 {
		s += fmt.Sprintf(", ignores %s until %s (%s)", r.Ignore, onDate(r.Expires), r.Reason)
	}
	return s
}

// lookupWords is a DNS answer with its DNSSEC status.
func lookupWords(l policy.Lookup) string {
	var s string
	switch l.Answer {
	case policy.Records:
		s = "answered"
	case policy.NoData:
		s = "no such record"
	case policy.NoName:
		s = "no such name"
	default:
		if l.Problem == "" {
			return "not asked"
		}
		return "unknown: " + l.Problem
	}
	if l.Secure {
		return s + ", secured by DNSSEC"
	}
	return s + ", not signed (no DNSSEC)"
}

// hosts are the plan's hosts in order, with what was probed.
func (e *explained) hosts(b *page) {
	if len(e.Plan.Targets) == 0 {
		return
	}
	b.gap()
	b.para("", "Hosts, in the order in which they are tried; the first that reaches its floor is taken, and weaker ways come only after all hosts")
	for i := range e.Plan.Targets {
		t := &e.Plan.Targets[i]
		b.para("", fmt.Sprintf("%d. %s  (preference %d)", i+1, t.Host, t.Preference))
		if h := e.host(t.Host); h != nil {
			e.hostFacts(b, t, h)
		}
		if t.Barred != nil {
			b.row("   ", "not used", "now: "+e.causeAt(t.Barred))
		} else {
			b.row("   ", "floor", relay.FloorWords(t.Floor)+", "+relay.BasisWords(t.Basis, t.Rule))
			b.row("   ", "tried with", rungWords(t.Rungs))
		}
		for _, at := range e.Throttled {
			if at.Host == t.Host {
				b.row("   ", "throttled", throttledWords(&at.Throttled))
			}
		}
		e.probes(b, t.Host)
	}
}

// throttledWords is how much a place takes of us now.
func throttledWords(t *relay.Throttled) string {
	s := fmt.Sprintf("connections at once: %d", t.Connections)
	if t.Rate > 0 {
		s += fmt.Sprintf(", messages a second: %.3g", t.Rate)
	}
	if t.Provider {
		s += ", with all hosts of provider " + t.Place
	}
	if !t.Until.IsZero() {
		s += "; throttled by host, next try at " + t.Until.UTC().Format("15:04:05 MST")
	}
	return s
}

func (e *explained) hostFacts(b *page, t *policy.Target, h *policy.Host) {
	for _, f := range []struct {
		label string
		a     *policy.Addresses
	}{{"IPv4", &h.V4}, {"IPv6", &h.V6}} {
		text := lookupWords(f.a.Lookup)
		if len(f.a.IPs) > 0 {
			var ips []string
			for _, ip := range f.a.IPs {
				ips = append(ips, ip.String())
			}
			text = strings.Join(ips, " ") + ", " + strings.TrimPrefix(text, "answered, ")
		}
		b.row("   ", f.label, text)
	}
	if h.Refused > 0 {
		b.row("   ", "left out", fmt.Sprintf("%d addresses that are private, loopback or this relay's own", h.Refused))
	}
	b.row("   ", "route", routeWords(t.Route))
	e.tlsaRows(b, t, h)
	for _, f := range []struct {
		label string
		m     *policy.Memory
	}{{"seen, IPv4", &h.V4.Memory}, {"seen, IPv6", &h.V6.Memory}} {
		if text := memoryWords(f.m, e.At); text != "" {
			b.row("   ", f.label, text)
		}
	}
}

func (e *explained) tlsaRows(b *page, t *policy.Target, h *policy.Host) {
	if !h.TLSA.Asked {
		b.row("   ", "TLSA", "not asked for")
		return
	}
	base := h.TLSA.Base
	if base == "" {
		base = h.Name
	}
	b.row("   ", "TLSA", fmt.Sprintf("_%d._tcp.%s: %s", h.Port, base, lookupWords(h.TLSA.Lookup)))
	for _, r := range h.TLSA.Records {
		meaning := "not usable: " + unusable(r)
		for _, u := range t.TLSA {
			if u.Usage == r.Usage && u.Selector == r.Selector && u.Matching == r.Matching && string(u.Data) == string(r.Data) {
				meaning = tlsaMeaning(r)
			}
		}
		data := hex.EncodeToString(r.Data)
		if len(data) > 16 {
			data = data[:16] + "..."
		}
		b.row("   ", "", fmt.Sprintf("%d %d %d %s  %s", r.Usage, r.Selector, r.Matching, data, meaning))
	}
}

func routeWords(r policy.Route) string {
	var who []string
	for _, w := range []struct {
		route policy.Route
		text  string
	}{
		{policy.RouteDNSSEC, "DNSSEC (signed MX answer)"}, {policy.RouteSelf, "the domain itself (no MX record)"},
		{policy.RouteOperator, "the operator (relay host)"}, {policy.RouteSTSEnforce, "the MTA-STS policy (enforce)"},
	} {
		if r&w.route != 0 {
			who = append(who, w.text)
		}
	}
	if r&policy.RouteSTS != 0 && r&policy.RouteSTSEnforce == 0 {
		who = append(who, "the MTA-STS policy (testing)")
	}
	if len(who) == 0 {
		return "nobody vouches that the host may take the domain's mail"
	}
	return "vouched for by " + strings.Join(who, " and ")
}

func rungWords(rungs []policy.Rung) string {
	var ways []string
	for _, r := range rungs {
		ways = append(ways, map[policy.Rung]string{
			policy.Modern: "modern TLS (1.3 or 1.2)", policy.Classical: "the same with a small first message (classical)",
			policy.LegacyTLS: "old TLS (legacy: 1.0, 1.1, weak suites)", policy.Clear: "no TLS (clear text)",
		}[r])
	}
	return strings.Join(ways, ", then ")
}

// memoryWords is what is remembered of a family of a host; "" for nothing.
func memoryWords(m *policy.Memory, now time.Time) string {
	if m.First.IsZero() {
		return ""
	}
	s := "first " + onDate(m.First)
	if m.Last != policy.Unset {
		s += fmt.Sprintf(", last session at level %s %s", m.Last, onDate(m.LastSeen))
	}
	if m.Best != policy.Unset {
		s += fmt.Sprintf(", best delivery at level %s %s", m.Best, onDate(m.BestAt))
	}
	if m.Good > 0 {
		s += fmt.Sprintf(", %d deliveries with TLS", m.Good)
	}
	for _, n := range []struct {
		until time.Time
		text  string
	}{
		{m.ClassicalUntil, "chokes on a large first message of TLS: classical until "},
		{m.BrokenUntil, "its TLS was broken: behind its equals until "},
		{m.DownUntil, "could not be connected to: last until "},
	} {
		if now.Before(n.until) {
			s += "; " + n.text + onDate(n.until)
		}
	}
	if !m.WeakSince.IsZero() {
		s += "; less than before since " + onDate(m.WeakSince)
	}
	return s
}

// probes are what the addresses of a host offered.
func (e *explained) probes(b *page, host policy.Domain) {
	found := false
	for i := range e.Probed {
		p := &e.Probed[i]
		if p.Host != host {
			continue
		}
		found = true
		b.row("   ", "probed", p.Addr.String()+": "+offered(p))
		for _, line := range certificateWords(&p.Evidence) {
			b.row("   ", "", line)
		}
		b.row("   ", "", e.wouldBeUsed(p))
	}
	if !found && e.Forecast != nil {
		b.row("   ", "probed", "no: it has no address to connect to, or too many were probed before it")
	}
}

// offered is the session that stood, and what had failed before.
func offered(p *relay.Probed) string {
	var failed []string
	for i := range p.Tried {
		if t := &p.Tried[i]; t.Reason != policy.ReasonUnset {
			failed = append(failed, t.Rung.String()+": "+t.Reason.English()+detail(t.Detail))
		}
	}
	before := ""
	if len(failed) > 0 {
		before = " (before that " + strings.Join(failed, "; ") + ")"
	}
	v := &p.Evidence
	switch {
	case p.Rung == policy.RungUnset && p.Failure != nil:
		return "no session: " + strings.Join(failed, "; ")
	case v.Version == 0:
		return "a session in clear text" + before
	}
	s := v.VersionName() + ", " + tls.CipherSuiteName(v.Suite)
	if v.Group != 0 {
		s += ", key exchange " + tls.CurveID(v.Group).String()
	}
	if v.RequireTLS {
		s += ", offers REQUIRETLS"
	}
	return s + before
}

// certificateWords say what the certificate proves.
func certificateWords(v *policy.Evidence) []string {
	if v.Version == 0 {
		return nil
	}
	s := "certificate: valid for the host's name, by a trusted CA (WebPKI)"
	if v.WebPKI != nil {
		s = "certificate: not valid by the trusted CAs (WebPKI): " + v.WebPKI.Reason.English() + detail(v.WebPKI.Detail)
	}
	if v.NotAfter != "" {
		s += ", until " + v.NotAfter
	}
	lines := []string{s}
	switch {
	case v.Peer&policy.PeerTLSA != 0:
		lines = append(lines, "TLSA: the certificate matches")
	case v.TLSA != nil:
		lines = append(lines, "TLSA: NO MATCH"+detail(v.TLSA.Detail))
	}
	return lines
}

// causeAt is cause where the host's name stands above.
func (e *explained) causeAt(f *policy.Failure) string {
	return strings.TrimPrefix(e.cause(f), string(f.Host)+": ")
}

// wouldBeUsed says what the plan makes of an address.
func (e *explained) wouldBeUsed(p *relay.Probed) string {
	level := ""
	if p.Level != policy.Unset {
		level = "level " + p.Level.String() + ": "
	}
	switch f := e.Forecast; {
	case p.Refused != nil:
		return level + "would not be used: " + e.causeAt(p.Refused)
	case f != nil && f.Failure == nil && f.Host == p.Host && f.Addr == p.Addr:
		return level + "would be used: mail would go here"
	}
	return level + "good enough, and would be used if the hosts before it failed"
}
