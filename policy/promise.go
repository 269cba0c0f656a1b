package policy

import "slices"

// promises raises a target's floor by what the domain promises about the host, and sets
// what the handshake needs; or it bars the host (policy: floors). DANE decides for its
// hosts; a host without usable TLSA records falls under MTA-STS, and so does one to which
// no secure MX answer led: whoever forges the MX has TLSA records too.
func (d *decider) promises(t *Target, h *Host, rule *Rule) {
	ignored := rule.overrides(d.query.Now)
	if d.rules.DANE && d.dane(t, h, rule, ignored&PromiseDANE != 0) || t.Barred != nil {
		return
	}
	if d.rules.MTASTS {
		d.sts(t, h, rule, ignored&PromiseMTASTS != 0)
	}
}

// bar keeps a host from being used now, for the domain's own promise.
func (t *Target) bar(by Basis, why Reason, detail string) {
	t.Barred, t.Basis = &Failure{Reason: why, Host: t.Host, Detail: detail}, by
}

// promised raises the target's floor, unless the message or a rule does not insist.
func (d *decider) promised(t *Target, floor Floor, by Basis, why string) {
	d.note(t.Host, why)
	if raised := t.Floor.Raise(floor); raised != t.Floor {
		t.Floor, t.Basis = raised, by
	}
}

// dane follows the host's TLSA records. It reports whether DANE decides here alone, so
// that MTA-STS has no say (RFC 8461 2).
func (d *decider) dane(t *Target, h *Host, rule *Rule, ignored bool) bool {
	insecureMX := !d.facts.MX.Secure && !d.facts.Implicit && !d.facts.Operator
	known := h.V4.Memory.KnownDANE(d.query.Now) || h.V6.Memory.KnownDANE(d.query.Now)
	insists := !d.query.TLSOff && !ignored // RFC 8689 4.2.2: followed, not insisted on
	switch {
	case !d.facts.DNSSEC && known && insists:
		// Own: without DNSSEC nobody can say whether the records are still there.
		t.bar(BasisDANE, DNSSECUnavailable, "")
		return true
	case !h.TLSA.Asked || insecureMX && !d.rules.InsecureMXDANE:
		return false
	case h.TLSA.Answer == Unknown && insists:
		t.bar(BasisDANE, TLSAUnknown, h.TLSA.Problem) // RFC 7672 2.1.2
		return true
	case h.TLSA.Answer == Unknown && ignored && !d.query.TLSOff:
		d.override(t, rule, PromiseDANE, "the TLSA lookup failed, and "+rule.name()+" does not insist on DANE")
		return false
	case h.TLSA.Answer != Records || !h.TLSA.Secure:
		return false
	}
	if h.TLSA.Base != "" {
		t.SNI = h.TLSA.Base // RFC 7672 8.1
	}
	t.TLSA = usable(h.TLSA.Records)
	t.Names = referenceNames(d.facts, t.SNI)
	switch {
	case d.query.TLSOff:
		return false
	case ignored:
		d.override(t, rule, PromiseDANE, "TLSA records, and "+rule.name()+" does not insist on DANE")
		return false
	case len(t.TLSA) == 0:
		// RFC 7672 2.2, 2.2.3: encryption without authentication
		d.promised(t, Floor{Level: Encrypted}, BasisDANE, "TLSA records are there and none is usable: encrypted at least")
		return false
	case insecureMX:
		d.promised(t, Floor{Level: Verified, Needs: NeedTLSA}, BasisDANE, // RFC 7672 2.2.1 MAY
			"TLSA records behind an insecure MX answer: verified at least")
	case !d.facts.DNSSEC:
		// Own: no new dane is claimed, and what the records say is kept all the same.
		t.Route &^= RouteSelf | RouteOperator
		d.promised(t, Floor{Level: Verified, Needs: NeedTLSA}, BasisDANE,
			"TLSA records, and the DNSSEC self-test failed: they must match, and dane is not claimed")
	default:
		d.promised(t, Floor{Level: DANE, Needs: NeedTLSA}, BasisDANE, "TLSA records: dane")
		return true
	}
	// The records prove the peer and not the route: they must match (RFC 8461 2 MUST NOT),
	// and a policy in enforce mode must list the host all the same (RFC 8461 5).
	return false
}

// sts follows the domain's MTA-STS policy at a host (RFC 8461 5).
func (d *decider) sts(t *Target, h *Host, rule *Rule, ignored bool) {
	mode := d.facts.STS.In(d.query.Now)
	matches := t.Route&RouteSTS != 0
	switch {
	case mode == STSTesting && !matches:
		d.note(h.Name, "the MTA-STS policy does not list this host; it is in testing mode, so it does not matter yet")
	case mode != STSEnforce || d.query.TLSOff:
	case ignored:
		d.override(t, rule, PromiseMTASTS, "an MTA-STS policy in enforce mode, and "+rule.name()+" does not insist on it")
	case !matches:
		// RFC 8461 5: MUST NOT deliver; in its turn, as if it could not be reached (8.4).
		t.bar(BasisMTASTS, STSMismatch, "")
	default:
		d.promised(t, Floor{Level: MTASTS}, BasisMTASTS, "an MTA-STS policy in enforce mode lists the host: mta-sts")
	}
}

// override records that a rule sets a promise aside here.
func (d *decider) override(t *Target, rule *Rule, what Promise, why string) {
	d.note(t.Host, why+" until "+rule.Expires.UTC().Format("2006-01-02 15:04 MST")+": "+rule.Reason)
	d.plan.Overrides = append(d.plan.Overrides, Override{
		Rule: rule.Name, Host: t.Host, Ignored: what, Reason: rule.Reason, Expires: rule.Expires,
	})
}

// referenceNames lists the reference names for DANE-TA (RFC 7672 3.2.2): the base
// always; with a secure MX answer the next-hop domain and its expansion; without
// MX the domain when the base is its expansion; behind an insecure MX no more.
func referenceNames(f *Facts, base Domain) []Domain {
	names := append(make([]Domain, 0, 3), base)
	add := func(d Domain) {
		if d != "" && !slices.Contains(names, d) {
			names = append(names, d)
		}
	}
	switch {
	case f.Implicit:
		add(f.Domain)
	case f.MX.Secure:
		add(f.Domain)
		add(f.Expanded)
	}
	return names
}
