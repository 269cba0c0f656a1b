package main

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// tlsaMeaning says what a usable record asks for (RFC 6698 2.1, RFC 7672 3.1).
func tlsaMeaning(r policy.TLSARecord) string {
	what := "certificate"
	if r.Selector == 1 {
		what = "public key"
	}
	if r.Usage == 2 {
		return "the " + what + " of a CA that signed the host's certificate must match, and the certificate must be valid and for the host's name (DANE-TA)"
	}
	return "the " + what + " of the host itself must match; its name and dates do not matter (DANE-EE)"
}

// unusable says why a record cannot be used for mail.
func unusable(r policy.TLSARecord) string {
	size, of := map[uint8]int{1: sha256.Size, 2: sha512.Size}[r.Matching], len(r.Data)
	switch {
	case r.Usage <= 1:
		return "usages 0 and 1 rest on public CAs and are not for mail (RFC 7672 3.1.3)"
	case r.Usage > 3:
		return "its usage is unknown"
	case r.Selector > 1:
		return "its selector is unknown"
	case r.Matching > 2:
		return "its matching type is unknown"
	case size > 0 && size != of:
		return fmt.Sprintf("its digest has %d octets in place of %d", of, size)
	case size == 0:
		return "its certificate or key cannot be read"
	}
	return "a stronger digest stands beside it"
}

// stsSentence is stsState as a sentence, with what it means for the hosts.
func (e *explained) stsSentence() string {
	s := "MTA-STS (RFC 8461): " + e.stsState() + "."
	if mode := e.Facts.STS.In(e.At); !e.Rules.MTASTS || mode != policy.STSEnforce && mode != policy.STSTesting {
		return s
	}
	var out []string
	for i := range e.Facts.Hosts {
		if h := &e.Facts.Hosts[i]; !e.Facts.STS.Matches(h.Name) {
			out = append(out, string(h.Name))
		}
	}
	if len(out) > 0 {
		s += " It does not list " + strings.Join(out, ", ") + " (a wildcard stands for one label)"
		if e.Facts.STS.In(e.At) == policy.STSTesting {
			return s + "; in testing mode that does not matter yet."
		}
		return s + ": mail must not go there on its word."
	}
	return s + " It lists all of the hosts."
}

// stsState is the domain's MTA-STS, as a clause.
func (e *explained) stsState() string {
	s := &e.Facts.STS
	record := "_mta-sts." + string(e.Asked.Domain)
	renewal := ""
	if s.Problem != "" {
		renewal = ", and it could not be renewed: " + s.Problem
	}
	switch mode := s.In(e.At); {
	case !e.Rules.MTASTS:
		return "not followed, because policy.mta_sts is off"
	case mode == policy.STSEnforce:
		return "the domain's policy is in enforce mode: mail may go only to a host that it lists, over TLS, with a valid certificate for the host's name by a trusted CA; else it waits. " + e.cached() + renewal
	case mode == policy.STSTesting:
		return "the domain's policy is in testing mode: failures do not hold mail up. " + e.cached() + renewal
	case mode == policy.STSNone:
		return "the domain's policy has mode none: it says itself that it is not to be followed. " + e.cached() + renewal
	case s.Mode != policy.STSAbsent:
		return "the cached policy (mode " + s.Mode.String() + ") ended " + onDate(s.Expires) + renewal + "; it counts no more"
	case s.Failure == policy.STSInvalid:
		return "the domain announces a policy, and what its web server gave is invalid: " + s.Problem + ". None is cached, so it is as if there were none (RFC 8461 3.3)"
	case s.Failure != policy.ReasonUnset:
		return "the domain announces a policy, and it could not be fetched: " + s.Problem + ". None is cached, so it is as if there were none (RFC 8461 3.3)"
	case s.Record.Answer == policy.Records:
		return "the TXT record at " + record + " is no valid announcement, so there is no policy" + detail(s.Problem)
	case s.Record.Answer == policy.NoData, s.Record.Answer == policy.NoName:
		return "none, because there is no TXT record at " + record
	case s.Record.Problem != "":
		return "the TXT record at " + record + " could not be looked up (" + s.Record.Problem + ") and no policy is cached, so it is as if there were none"
	}
	return "not looked up"
}

// cached says how old the policy is.
func (e *explained) cached() string {
	s := &e.Facts.STS
	if s.Fetched.IsZero() {
		return "It is of unknown age"
	}
	return fmt.Sprintf("It was fetched %s ago (id %s) and may be used until %s", short(max(e.At.Sub(s.Fetched), 0)), s.ID, onDate(s.Expires))
}

// memorySentence says what a host's history does to it.
func (e *explained) memorySentence(t *policy.Target) string {
	h := e.host(t.Host)
	if h == nil {
		return ""
	}
	hold := e.rule(t.Host).Hold
	for _, a := range []*policy.Addresses{&h.V4, &h.V6} {
		held, until := a.Memory.Held(e.At, hold)
		switch {
		case t.Basis != policy.BasisHold || !held:
		case until.IsZero():
			return fmt.Sprintf("%s did TLS in its last %d deliveries, and so it is held to level encrypted (downgrade hold): if it has none now, mail waits.", t.Host, a.Memory.Good)
		default:
			return fmt.Sprintf("%s did TLS in %d deliveries and offers less since %s: it is held to level encrypted until %s (downgrade hold); only then may mail go out in a weaker way.",
				t.Host, a.Memory.Good, onDate(a.Memory.WeakSince), onDate(until))
		}
	}
	return ""
}

func (e *explained) rule(host policy.Domain) relay.RuleView {
	if r, ok := e.Rules.ByHost[host]; ok {
		return r
	}
	return e.Rules.Rule
}

// ruleSentences say which rule is for the delivery and what it and the message ask for.
func (e *explained) ruleSentences() []string {
	if e.permanentFact() {
		return nil
	}
	r := &e.Rules.Rule
	list := []string{ruleSentence(r, "No rule of the operator names this delivery, so the default rule counts", "The operator's "+r.Name+" is for this delivery") + "."}
	for i := range e.Plan.Targets {
		host := e.Plan.Targets[i].Host
		if own, ok := e.Rules.ByHost[host]; ok {
			list = append(list, ruleSentence(&own, "For "+string(host)+" the default rule counts", "The operator's "+own.Name+" is for "+string(host))+".")
		}
	}
	switch {
	case e.Asked.RequireTLS && e.Asked.NullSender:
		list = append(list, "REQUIRETLS does not bind bounces (RFC 8689 4.2.1); this relay wants level encrypted for them all the same.")
	case e.Asked.RequireTLS:
		list = append(list, "REQUIRETLS (RFC 8689) wants three things: somebody vouches that the host may take the domain's mail (DNSSEC or MTA-STS), "+
			"the host proves its name, and it offers REQUIRETLS itself. If one is missing at every host, the message bounces.")
	}
	if e.Asked.Message != policy.Unset {
		list = append(list, "The message itself asks for level "+e.Asked.Message.String()+": it can raise the floor, not lower it.")
	}
	if e.Asked.Account != policy.Unset {
		list = append(list, "The credential "+e.Asked.Credential+" asks for level "+e.Asked.Account.String()+".")
	}
	return list
}

// permanentFact reports whether the domain itself settles the matter.
func (e *explained) permanentFact() bool {
	f := e.Plan.Refusal
	return f != nil && (f.Reason == policy.NullMX || f.Reason == policy.DomainNotFound)
}

func ruleSentence(r *relay.RuleView, plain, named string) string {
	s := named
	if r.Name == "default" || r.Name == "" {
		s = plain
	}
	s += ": its floor is level " + r.Floor.String()
	var down []string
	for _, f := range r.Fallback {
		if f.To < r.Floor {
			continue
		}
		w := f.To.String()
		if f.After > 0 {
			w += " after " + short(f.After)
		}
		if f.MinTries > 0 {
			w += fmt.Sprintf(" after %d tries", f.MinTries)
		}
		down = append(down, w)
	}
	if len(down) > 0 {
		s += ", and where nothing better is to be had it permits " + strings.Join(down, ", then ")
	}
	if r.MinTLS != 0 {
		s += ", with " + tls.VersionName(r.MinTLS) + " at least"
	}
	return s
}

// outcomeSentence says what happens when nothing good enough is found.
func (e *explained) outcomeSentence() string {
	until := "until its time is over"
	if e.giveUp > 0 {
		until += fmt.Sprintf(" (%s after acceptance, retry.give_up)", longer(e.giveUp))
	}
	tried := "is tried again by the retry schedule " + until + ", and then bounces"
	switch f := e.Plan.Refusal; {
	case f != nil && f.Permanent():
		return "What happens: the sender gets a bounce (" + f.Code() + ") at the first try, and nothing is sent."
	case f != nil:
		return "What happens: mail waits (" + f.Code() + "); it " + tried + "."
	case e.Unmet == nil:
		return "If no host can be reached, or the hosts put it off, mail waits; it " + tried + "."
	case e.Unmet.Permanent():
		return "If every host is reached and none is good enough, mail bounces at once (" + e.Unmet.Code() + e.keyword() + "); if one cannot be reached, it waits and " + tried + "."
	}
	if slices.ContainsFunc(e.Plan.Targets, func(t policy.Target) bool { return t.Later }) {
		return "If no host is good enough now, mail waits, and less may be enough later (see above); it " + tried + "."
	}
	return "If no host is good enough, mail waits (" + e.Unmet.Code() + "); it " + tried + "."
}

// keyword adds the code of a host that lacks only REQUIRETLS (RFC 8689 4.2.1).
func (e *explained) keyword() string {
	if e.Asked.RequireTLS {
		return ", or 5.7.30 where a host lacked only REQUIRETLS"
	}
	return ""
}

func longer(d time.Duration) string {
	if d >= 48*time.Hour {
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
	return fmt.Sprintf("%d hours", int(d.Hours()))
}
