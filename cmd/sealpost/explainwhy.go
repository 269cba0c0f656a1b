package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// cause says why mail does not go, as a clause with the facts behind it.
func (e *explained) cause(f *policy.Failure) string {
	at := ""
	if f.Host != "" {
		at = string(f.Host) + ": "
	}
	switch f.Reason {
	case policy.NullMX:
		return "the domain has a null MX record, which says that it takes no mail at all (RFC 7505)"
	case policy.DomainNotFound:
		return "the domain does not exist (DNS: no such name" + proven(e.Facts.MX) + ")"
	case policy.DNSUnknown:
		if f.Host == "" {
			return "DNS gave no answer about the domain's mail exchangers (MX) that can be believed: " + f.Detail + bogus(f.Detail)
		}
		return at + "DNS gave no answer about it that can be believed: " + f.Detail + bogus(f.Detail)
	case policy.TLSAUnknown:
		return at + "the TLSA lookup failed, so nobody knows whether the host is protected by DANE, and it must not be used now (RFC 7672 2.1.2): " + f.Detail + bogus(f.Detail)
	case policy.TLSAMismatch:
		// The record can be right and the chain below its anchor wrong: what the verifier says.
		if _, why, ok := strings.Cut(f.Detail, ": "); ok && !strings.HasPrefix(why, "no TLSA record matches") {
			return at + "the certificate that the host shows is not good by its TLSA records (DANE, RFC 7672): " + why
		}
		return at + "the certificate that the host shows matches none of its TLSA records (DANE, RFC 7672): somebody is in between, or the domain's records are out of date"
	case policy.STSMismatch:
		return at + "the domain's MTA-STS policy is in enforce mode and does not list this host (RFC 8461 4.1; it lists " +
			strings.Join(e.Facts.STS.MX, ", ") + "; a wildcard stands for one label)"
	case policy.DNSSECMissing:
		return e.wants(f.Host) + ", and the domain's MX answer is not signed with DNSSEC, so DANE cannot be had (RFC 7672 2.2.1)"
	case policy.TLSAUnusable:
		return e.wants(f.Host) + ", and " + string(f.Host) + " has no TLSA record that can be used: " + e.tlsaState(f.Host)
	case policy.STSMissing:
		return e.wants(f.Host) + ", and the domain has no MTA-STS policy in enforce mode: " + e.stsState()
	case policy.STSFetchFailed, policy.STSInvalid:
		return e.wants(f.Host) + ", and " + f.Reason.English() + ": " + f.Detail
	case policy.DNSSECUnavailable:
		return at + "DNSSEC cannot be checked now (the resolver's self-test fails), and the answer decides whether the host may be used"
	case policy.Interrupted, policy.ReplyTimeout:
		return at + f.Reason.English() + detail(f.Detail)
	}
	s := at + f.Reason.English() + detail(levelReached(f.Detail))
	if f.Reason == policy.STARTTLSTemporary {
		return s + "; that may pass, so a first attempt waits for it (RFC 3207 4), and a later one takes what there is"
	}
	if f.Reason == policy.RequireTLSMissing {
		return s + ", and that is not enough, because the message asks for REQUIRETLS (RFC 8689 4.2.1)"
	}
	if f.Reason.MayLower() || f.Reason == policy.RouteUnproven || f.Reason == policy.FallbackNotYet {
		s += ", and that is not enough, because " + e.wants(f.Host)
	}
	return s
}

// levelReached shortens the detail of a level that was too low: floor and certificate are
// told elsewhere.
func levelReached(s string) string {
	if level, _, ok := strings.Cut(s, ", the floor is "); ok {
		return level
	}
	return s
}

func detail(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// wants says which floor stands at a host and who set it.
func (e *explained) wants(host policy.Domain) string {
	if t := e.target(host); t != nil {
		return e.setBy(t)
	}
	return "the floor is " + relay.FloorWords(e.Plan.Floor) + ", " + relay.BasisWords(e.Plan.Basis, e.Plan.Rule)
}

func (e *explained) target(host policy.Domain) *policy.Target {
	for i := range e.Plan.Targets {
		if e.Plan.Targets[i].Host == host {
			return &e.Plan.Targets[i]
		}
	}
	return nil
}

func (e *explained) host(name policy.Domain) *policy.Host {
	for i := range e.Facts.Hosts {
		if e.Facts.Hosts[i].Name == name {
			return &e.Facts.Hosts[i]
		}
	}
	return nil
}

// proven says that DNSSEC vouches for an absence.
func proven(l policy.Lookup) string {
	if l.Secure {
		return ", proven by DNSSEC"
	}
	return ""
}

// bogus explains the answer that a validating resolver gives for wrong signatures.
func bogus(problem string) string {
	switch {
	case strings.Contains(problem, "Bogus"), strings.Contains(problem, "Signature"), strings.Contains(problem, "DNSKEY Missing"), strings.Contains(problem, "RRSIGs Missing"):
		return " (the resolver says that the DNSSEC signatures are wrong: a bogus zone)"
	case strings.Contains(problem, "SERVFAIL"):
		return " (SERVFAIL is what a validating resolver says when DNSSEC signatures are wrong, that is a bogus zone, or when the domain's name servers fail)"
	}
	return ""
}

// why lists the reasons as sentences, from the domain's own to the operator's.
func (e *explained) why() []string {
	var list []string
	add := func(text string) {
		if text != "" && !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	if e.Plan.Refusal == nil && e.Forecast != nil {
		add("The plan, before any host was asked: " + e.promise())
	}
	add(e.mxSentence())
	if !e.Facts.DNSSEC && !e.Facts.Operator {
		add("DNSSEC is not available: the resolver is not trusted, or its self-test fails. No delivery can reach level dane now.")
	}
	for i := range e.Facts.Hosts {
		add(e.tlsaSentence(&e.Facts.Hosts[i]))
	}
	if e.Facts.MX.Answer == policy.Records || e.Facts.MX.Answer == policy.NoData {
		if !e.Facts.NullMX {
			add(e.stsSentence())
		}
	}
	for i := range e.Plan.Targets {
		add(e.memorySentence(&e.Plan.Targets[i]))
	}
	list = append(list, e.ruleSentences()...)
	for i := range e.Plan.Overrides {
		o := &e.Plan.Overrides[i]
		add(fmt.Sprintf("Override: the operator's %s does not insist on %s at %s until %s. The reason given: %s.", o.Rule, o.Ignored, o.Host, onDate(o.Expires), o.Reason))
	}
	add(e.outcomeSentence())
	return list
}

func (e *explained) mxSentence() string {
	f := &e.Facts
	self := ""
	if f.Self {
		self = " This relay is itself in the list: it and all that are not preferred to it are left out (RFC 5321 5.1)."
	}
	switch {
	case f.Operator:
		return "A relay host is configured (delivery.relay_host): all mail goes there, and the domain's own records are not asked."
	case f.MX.Answer == policy.Unknown:
		return "No answer is not the same as no record: mail must wait until DNS answers (RFC 7672 2.1)."
	case f.MX.Answer == policy.NoName, f.NullMX:
		return ""
	case f.Implicit && f.MX.Secure:
		return "The domain has no MX record, and DNSSEC proves that: it is its own mail exchanger (RFC 5321 5.1)." + self
	case f.Implicit:
		return "The domain has no MX record: it is its own mail exchanger (RFC 5321 5.1)." + self
	case f.MX.Secure && f.DNSSEC:
		return "The MX answer, which names the mail exchangers, is signed: DNSSEC vouches that these hosts may take the domain's mail." + self
	case f.MX.Secure:
		return "The MX answer, which names the mail exchangers, is marked as signed, but DNSSEC cannot be believed now." + self
	}
	return "The MX answer, which names the mail exchangers, is not signed with DNSSEC: whoever can change it on the way can send mail elsewhere, so level dane is out of reach (RFC 7672 2.2.1)." + self
}

// tlsaSentence says what a host's TLSA records mean.
func (e *explained) tlsaSentence(h *policy.Host) string {
	if len(h.V4.IPs)+len(h.V6.IPs) == 0 {
		t := e.target(h.Name)
		if t == nil || t.Barred == nil {
			return ""
		}
		return fmt.Sprintf("%s cannot be used: %s.", h.Name, addressCause(h, t.Barred))
	}
	return fmt.Sprintf("%s: %s.", h.Name, e.tlsaState(h.Name))
}

func addressCause(h *policy.Host, f *policy.Failure) string {
	switch f.Reason {
	case policy.NoAddress:
		return "it has no address"
	case policy.AddressRefused:
		return fmt.Sprintf("its addresses (%d) are private, loopback or this relay's own", h.Refused)
	}
	return "the lookup of its addresses failed: " + f.Detail + bogus(f.Detail)
}

// tlsaState is the state of DANE at a host, as a clause.
func (e *explained) tlsaState(name policy.Domain) string {
	h := e.host(name)
	if h == nil {
		return "nothing is known of it"
	}
	t := e.target(name)
	switch tl := &h.TLSA; {
	case !e.Rules.DANE:
		return "TLSA records (DANE) are not followed, because policy.dane is off"
	case !tl.Asked && (h.V4.Secure || h.V6.Secure):
		return "TLSA records (DANE) were not asked for"
	case !tl.Asked:
		return "no DANE, because its address records are not signed with DNSSEC; TLSA records, if there are any, are then not even asked for (RFC 7672 2.2.2)"
	case t == nil:
		return "the TLSA records do not matter here"
	case e.insecureMX() && !e.Rules.InsecureMXDANE:
		return "TLSA records (DANE) are not followed, because the MX answer is not signed and policy.insecure_mx_dane is off"
	case tl.Answer == policy.Unknown:
		return "the TLSA lookup failed, and that is not the same as no record, so the host is not used now (RFC 7672 2.1.2): " + tl.Problem + bogus(tl.Problem) + e.notInsisted(t)
	case tl.Answer != policy.Records:
		return "no TLSA record (DANE)" + proven(tl.Lookup) + ", so it is not asked to prove a certificate by DANE"
	case !tl.Secure:
		return "TLSA records without DNSSEC, which count for nothing (RFC 7672 2.2)"
	case t.Barred != nil && t.Barred.Reason == policy.DNSSECUnavailable:
		return "TLSA records (DANE) that cannot be believed or dismissed now, because DNSSEC is not available: the host was met at level dane before, so mail waits"
	case len(t.TLSA) == 0:
		return "TLSA records, secured by DNSSEC, of which none can be used for mail (" + e.unusableWords(tl.Records) +
			"): TLS is required, the certificate is not checked (RFC 7672 2.2)" + e.notInsisted(t)
	default:
		return "TLSA records, secured by DNSSEC (DANE, RFC 7672): " + e.tlsaDemand(h, t) + e.notInsisted(t)
	}
}

// tlsaDemand says what usable records ask of the host.
func (e *explained) tlsaDemand(h *policy.Host, t *policy.Target) string {
	var words []string
	for _, r := range t.TLSA {
		if w := fmt.Sprintf("TLSA %d %d %d: %s", r.Usage, r.Selector, r.Matching, tlsaMeaning(r)); !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	s := strings.Join(words, "; or ")
	if h.TLSA.Base != "" && h.TLSA.Base != h.Name {
		s += fmt.Sprintf(". The host is an alias (CNAME); the records are those of %s, which is also the name that the host is asked for in TLS (RFC 7672 2.2.3)", h.TLSA.Base)
	}
	if e.insecureMX() {
		s += ". As the MX answer is not signed, that proves the host and not that it may take this mail: level verified, not dane"
	}
	return s
}

func (e *explained) insecureMX() bool {
	return !e.Facts.MX.Secure && !e.Facts.Implicit && !e.Facts.Operator
}

// notInsisted adds that an override takes the bite out.
func (e *explained) notInsisted(t *policy.Target) string {
	if t == nil || !slices.ContainsFunc(e.Plan.Overrides, func(o policy.Override) bool { return o.Host == t.Host && o.Ignored&policy.PromiseDANE != 0 }) {
		return ""
	}
	return "; an operator's override does not insist on it"
}

func (e *explained) unusableWords(records []policy.TLSARecord) string {
	var words []string
	for _, r := range records {
		w := fmt.Sprintf("TLSA %d %d %d: %s", r.Usage, r.Selector, r.Matching, unusable(r))
		if !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	return strings.Join(words, "; ")
}
