package relay

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// hostsInSummary bounds the hosts that a summary names one by one.
const hostsInSummary = 4

// Summary is the attempt in one to three sentences: what was wanted and by whom, what
// the hosts offered, and what happens next. It has our own words only: no reply of a
// host, no address of a person.
func (a *Attempt) Summary() string { return strings.TrimRight(a.Finding()+" "+a.next(), " ") }

// Finding is the summary without what happens next, for readers who learn that from
// elsewhere (a notice to the sender).
func (a *Attempt) Finding() string {
	s := "Wanted " + a.wanted() + "."
	if a.Wanted.Level == policy.Unset {
		s = "Nothing was planned." // interrupted before there were facts
	}
	if offered := a.offered(); offered != "" {
		return s + " " + offered + "."
	}
	if a.Failure != nil {
		return s + " No host was asked: " + a.Failure.Reason.English() + "."
	}
	return s
}

// wanted is the floor and its source.
func (a *Attempt) wanted() string {
	if a.Failure != nil {
		// Judged so only where the domain itself promised it (RFC 7672 2.2, RFC 8461 5).
		switch a.Failure.Reason {
		case policy.TLSAMismatch, policy.TLSAUnknown, policy.DNSSECUnavailable:
			if a.Basis != policy.BasisDANE {
				return "what the TLSA records of the domain's hosts ask for (DANE)"
			}
		case policy.STSMismatch:
			if a.Basis != policy.BasisMTASTS {
				return "mta-sts, asked for by the domain's MTA-STS policy"
			}
		}
	}
	return FloorWords(a.Wanted) + ", " + BasisWords(a.Basis, a.Rule)
}

// FloorWords is a floor for a person: its level, and its needs in words.
func FloorWords(f policy.Floor) string {
	s := "level " + f.Level.String()
	if f.Level < policy.DANE {
		s += " or better"
	}
	if f.Needs&policy.NeedTLSA != 0 && f.Level < policy.DANE {
		s += ", proven by TLSA"
	}
	var needs []string
	if f.Needs&policy.NeedRoute != 0 {
		needs = append(needs, "an authenticated route")
	}
	if f.Needs&policy.NeedRequireTLS != 0 {
		needs = append(needs, "REQUIRETLS at the host")
	}
	if len(needs) > 0 {
		s += " with " + strings.Join(needs, " and ")
	}
	return s
}

// BasisWords says who set a floor.
func BasisWords(b policy.Basis, rule string) string {
	switch b {
	case policy.BasisRule:
		return "set by " + rule
	case policy.BasisCredential:
		return "set for the sending account"
	case policy.BasisMessage:
		return "asked for by the message"
	case policy.BasisMTASTS:
		return "asked for by the domain's MTA-STS policy"
	case policy.BasisDANE:
		return "asked for by the host's TLSA records (DANE)"
	case policy.BasisHold:
		return "held, because TLS worked there before"
	default:
		return "set by the default rule"
	}
}

// offered says of each host that was tried, in order, what it offered.
func (a *Attempt) offered() string {
	var hosts []policy.Domain
	said := map[policy.Domain][]string{}
	for i := range a.Trace {
		t := &a.Trace[i]
		if _, ok := said[t.Host]; !ok {
			hosts = append(hosts, t.Host)
		}
		text := a.step(t)
		if list := said[t.Host]; len(list) == 0 || list[len(list)-1] != text {
			said[t.Host] = append(list, text)
		}
	}
	var parts []string
	for i, h := range hosts {
		if i == hostsInSummary {
			parts = append(parts, strconv.Itoa(len(hosts)-i)+" more hosts were no better")
			break
		}
		parts = append(parts, string(h)+": "+strings.Join(said[h], ", then "))
	}
	return strings.Join(parts, "; ")
}

// step says in our own words what came of one step.
func (a *Attempt) step(t *policy.Tried) string {
	switch {
	case t.Reason == policy.ReasonUnset && t.Kept:
		return "offered level " + t.Level.String()
	case t.Reason == policy.ReasonUnset && a.refused():
		return "refused it at level " + t.Level.String()
	case t.Reason == policy.ReasonUnset && a.notTaken():
		return "was reached at level " + t.Level.String()
	case t.Reason == policy.ReasonUnset:
		return "took it at level " + t.Level.String()
	case t.Level != policy.Unset && t.Reason.MayLower():
		return t.Reason.English() + ", so no more than level " + t.Level.String() + " was reached"
	}
	return t.Reason.English()
}

// refused reports whether the host that the walk ended with took the mail for nobody.
func (a *Attempt) refused() bool {
	return a.every(func(k queue.OutcomeKind) bool { return k == queue.BouncedNow })
}

// notTaken reports whether no recipient's mail is known to be taken: it waits for another try.
func (a *Attempt) notTaken() bool {
	return a.every(func(k queue.OutcomeKind) bool { return k != queue.DeliveredNow })
}

// every reports whether there are outcomes, and all are of such a kind.
func (a *Attempt) every(such func(queue.OutcomeKind) bool) bool {
	return len(a.Outcomes) > 0 && !slices.ContainsFunc(a.Outcomes, func(o AttemptOutcome) bool { return !such(o.Kind) })
}

// next says what becomes of the recipients.
func (a *Attempt) next() string {
	var n [3]int
	for _, o := range a.Outcomes {
		if int(o.Kind) < len(n) {
			n[o.Kind]++
		}
	}
	var parts []string
	add := func(kind queue.OutcomeKind, alone, some string) {
		switch count := n[kind]; {
		case count == len(a.Outcomes) && count > 0:
			parts = append(parts, alone)
		case count > 0:
			parts = append(parts, strconv.Itoa(count)+" of "+strconv.Itoa(len(a.Outcomes))+some)
		}
	}
	add(queue.DeliveredNow, "It is delivered.", " delivered.")
	if !a.Throttled.IsZero() {
		parts = append(parts, "Throttled by host, next try at "+a.Throttled.UTC().Format("15:04:05 MST")+" or soon after; no try is burned.")
	}
	add(queue.DeferredNow, "It waits and is tried again.", " waiting, to be tried again.")
	add(queue.BouncedNow, "It is given up, and the sender is told.", " given up, and the sender is told.")
	return strings.Join(parts, " ")
}
