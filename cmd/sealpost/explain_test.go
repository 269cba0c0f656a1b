package main

import (
	"context"
	"crypto/tls"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

var (
	_ relay.Scout  = (*explainLab)(nil)
	_ relay.Opener = (*explainLab)(nil)
)

// explainLab is a domain made by hand: its facts, and what each host offers.
type explainLab struct {
	facts policy.Facts
	rules policy.Ruleset
	query relay.Inquiry
	// offers is by host; one that is not there refuses the connection.
	offers map[policy.Domain]offer
	alone  bool // no relay is running
}

type offer struct {
	version uint16 // 0: no STARTTLS
	webPKI  policy.Reason
	tlsa    policy.Reason
	require bool
	broken  policy.Reason // of every handshake
}

func (l *explainLab) Facts(context.Context, policy.Domain) (policy.Facts, error) { return l.facts, nil }

func (l *explainLab) Renew(context.Context, policy.Domain) (policy.Facts, bool, error) {
	return l.facts, false, nil
}

func (l *explainLab) Open(_ context.Context, s policy.Step) (relay.Session, policy.Evidence, *policy.Failure) {
	fail := func(r policy.Reason) (relay.Session, policy.Evidence, *policy.Failure) {
		return nil, policy.Evidence{}, &policy.Failure{Reason: r, Host: s.Target.Host}
	}
	o, ok := l.offers[s.Target.Host]
	switch {
	case !ok:
		return fail(policy.ConnectRefused)
	case s.Rung == policy.Clear:
		return quitter{}, policy.InClear(s), nil
	case o.version == 0:
		return fail(policy.STARTTLSMissing)
	case o.broken != 0:
		return fail(o.broken)
	case o.version < tls.VersionTLS12 && s.Rung != policy.LegacyTLS:
		return fail(policy.HandshakeVersion)
	}
	e := policy.Evidence{
		Rung: s.Rung, Route: s.Target.Route, Version: o.version, Suite: tls.TLS_AES_128_GCM_SHA256, Group: uint16(tls.X25519MLKEM768),
		RequireTLS: o.require, NotAfter: "2026-12-31T00:00:00Z", Peer: policy.PeerWebPKI,
	}
	if o.webPKI != 0 {
		e.WebPKI, e.Peer = &policy.Failure{Reason: o.webPKI, Host: s.Target.Host}, 0
	}
	switch {
	case len(s.Target.TLSA) == 0:
	case o.tlsa != 0:
		e.TLSA = &policy.Failure{Reason: o.tlsa, Host: s.Target.Host, Detail: "no TLSA record matches the certificate that the host sent"}
	default:
		e.Peer |= policy.PeerTLSA
	}
	return quitter{}, e, nil
}

// quitter is a session that can only be ended: a probe sends no mail.
type quitter struct{ relay.Session }

func (quitter) Quit() {}

var explainNow = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// happyLab is a signed domain with two signed hosts that do everything well.
func happyLab() *explainLab {
	host := func(name string, pref uint16, ip string) policy.Host {
		signed := policy.Lookup{Answer: policy.Records, Secure: true}
		return policy.Host{
			Name: policy.Domain(name), Preference: pref, Port: 25,
			V4:   policy.Addresses{Lookup: signed, IPs: []netip.Addr{netip.MustParseAddr(ip)}},
			V6:   policy.Addresses{Lookup: policy.Lookup{Answer: policy.NoData, Secure: true}},
			TLSA: policy.TLSAFacts{Asked: true, Lookup: policy.Lookup{Answer: policy.NoName, Secure: true}},
		}
	}
	good := offer{version: tls.VersionTLS13}
	return &explainLab{
		facts: policy.Facts{
			Domain: "example.org", Expanded: "example.org", MX: policy.Lookup{Answer: policy.Records, Secure: true}, DNSSEC: true,
			At: explainNow.Add(-90 * time.Second), STS: policy.STS{Record: policy.Lookup{Answer: policy.NoName, Secure: true}},
			Hosts: []policy.Host{host("mx1.example.org", 10, "192.0.2.1"), host("mx2.example.org", 20, "192.0.2.2")},
		},
		rules: policy.Ruleset{
			Default: policy.Rule{Name: "default", Floor: policy.Plaintext, OnUnmet: policy.Defer, Hold: 4 * time.Hour,
				Fallback: []policy.Fallback{{To: policy.Legacy}, {To: policy.Plaintext}}},
			DANE: true, InsecureMXDANE: true, MTASTS: true,
		},
		query:  relay.Inquiry{Query: policy.Query{Domain: "example.org", Now: explainNow}, Probe: true},
		offers: map[policy.Domain]offer{"mx1.example.org": good, "mx2.example.org": good},
	}
}

func (l *explainLab) tlsa(host int, records ...policy.TLSARecord) {
	h := &l.facts.Hosts[host]
	h.TLSA = policy.TLSAFacts{Asked: true, Lookup: policy.Lookup{Answer: policy.Records, Secure: true}, Base: h.Name, Records: records}
}

func (l *explainLab) sts(mode policy.STSMode, mx ...string) {
	l.facts.STS = policy.STS{
		Mode: mode, ID: "20260301", MX: mx, Fetched: explainNow.Add(-3 * time.Hour), Expires: explainNow.Add(7 * 24 * time.Hour),
		Record: policy.Lookup{Answer: policy.Records, Secure: true},
	}
}

// unsigned takes DNSSEC away from everything.
func (l *explainLab) unsigned() {
	l.facts.MX.Secure, l.facts.STS.Record.Secure = false, false
	for i := range l.facts.Hosts {
		h := &l.facts.Hosts[i]
		h.V4.Secure, h.V6.Secure, h.TLSA = false, false, policy.TLSAFacts{}
	}
}

func (l *explainLab) offer(o offer) {
	l.offers = map[policy.Domain]offer{"mx1.example.org": o, "mx2.example.org": o}
}

func (l *explainLab) explained(t *testing.T) explained {
	t.Helper()
	c := relay.NewCourier(relay.Options{Scout: l, Opener: l, Rules: func() *policy.Ruleset { return &l.rules }})
	x, err := c.Explain(t.Context(), l.query)
	if err != nil {
		t.Fatal(err)
	}
	return explained{Explanation: x, running: !l.alone, giveUp: 5 * 24 * time.Hour}
}

// The pages of a table of domains, each with words that name the true reason: in the
// verdict (the first paragraph), and anywhere. The goldens are for a person to read;
// SEALPOST_UPDATE_GOLDEN=1 writes them.
func TestExplainGoldens(t *testing.T) {
	t.Parallel()
	for _, c := range explainCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := happyLab()
			c.change(l)
			e := l.explained(t)
			got := e.text()
			verdict, _, _ := strings.Cut(got, "\n\n")
			verdict, all := strings.Join(strings.Fields(verdict), " "), strings.Join(strings.Fields(got), " ")
			for _, want := range c.verdict {
				if !strings.Contains(verdict, want) {
					t.Errorf("the verdict lacks %q: %s", want, verdict)
				}
			}
			for _, want := range c.page {
				if !strings.Contains(all, want) {
					t.Errorf("the page lacks %q", want)
				}
			}
			for line := range strings.Lines(got) {
				if strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") || strings.Contains(line, "%!") {
					t.Errorf("a bad line: %q", line)
				}
			}
			path := filepath.Join("testdata", "explain", c.name+".golden")
			if os.Getenv("SEALPOST_UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(want) != got {
				t.Errorf("%s differs (SEALPOST_UPDATE_GOLDEN=1 writes it anew):\n%s", path, got)
			}
		})
	}
}

func TestExplainInquiry(t *testing.T) {
	t.Parallel()
	c := explainCmd{Domain: "<Ann.Secret@BÜCHER.example>", Sender: "bob.secret@Shop.example", MinLevel: "verified", RequireTLS: true, Probe: true}
	q, err := c.inquiry()
	if err != nil {
		t.Fatal(err)
	}
	if q.Domain != "xn--bcher-kva.example" || q.Sender != "shop.example" || q.Message != policy.Verified || !q.RequireTLS || !q.Probe {
		t.Errorf("%+v", q)
	}
	if q, err := (&explainCmd{Domain: "example.org", Sender: "<>"}).inquiry(); err != nil || !q.NullSender || q.Sender != "" {
		t.Errorf("<>: %+v %v", q, err)
	}
	for _, bad := range []explainCmd{{Domain: "secret@"}, {Domain: "a..b"}, {Domain: "example.org", Sender: "secret@bad_.-"}, {Domain: "example.org", MinLevel: "best"}} {
		if _, err := bad.inquiry(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
