package relay

import (
	"context"
	"slices"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// ExplanationVersion is the version of the Explanation record.
const ExplanationVersion = 1

// Inquiry asks why mail to a domain would be treated as it is.
type Inquiry struct {
	policy.Query // Now may be left out: the present
	// Probe opens sessions with the hosts, without any mail, to see what they really offer.
	Probe bool
}

// Explanation is the whole reasoning for one delivery that nobody has begun: what the
// network says, which rule is for it, the plan, and on request what the hosts really
// offer. It is made of the same values as a delivery, and holds no address of a person.
type Explanation struct {
	Version int       `json:"v"`
	At      time.Time `json:"at"`
	Asked   Asked     `json:"asked"`
	// Facts may be some minutes old: what a delivery would use now. Facts.At says so.
	Facts policy.Facts `json:"facts"`
	Rules Follows      `json:"rules"`
	Plan  policy.Plan  `json:"plan"`
	// Unmet is what becomes of the mail when every host is reached and none is good
	// enough; nil when the plan is refused anyway, or any host is good enough.
	Unmet *policy.Failure `json:"unmet,omitempty"`
	// Throttled are the addresses of the plan that get less now than the configuration allows.
	Throttled []ThrottledAt `json:"throttled,omitempty"`
	// Probed is what each address really offers, in the plan's order; empty when nobody asked.
	Probed []Probed `json:"probed,omitempty"`
	// Forecast is what a delivery would have come to with what was probed; nil without a probe.
	Forecast *Forecast `json:"forecast,omitempty"`
}

// Asked is the part of a query that an operator can choose, as JSON.
type Asked struct {
	Domain     policy.Domain `json:"domain"`
	Sender     string        `json:"sender,omitempty"` // a domain
	NullSender bool          `json:"null_sender,omitempty"`
	Credential string        `json:"credential,omitempty"`
	Stream     string        `json:"stream,omitempty"`
	Message    policy.Level  `json:"min_level,omitempty"`
	Account    policy.Level  `json:"account,omitempty"`
	RequireTLS bool          `json:"require_tls,omitempty"`
}

// Follows is what the ruleset says for this delivery: the rule that is for hosts which no
// rule names, those for hosts that one names, and which promises of domains are followed.
type Follows struct {
	Rule           RuleView                   `json:"rule"`
	ByHost         map[policy.Domain]RuleView `json:"by_host,omitempty"`
	DANE           bool                       `json:"dane"`
	InsecureMXDANE bool                       `json:"insecure_mx_dane"`
	MTASTS         bool                       `json:"mta_sts"`
}

// RuleView is a rule as the operator wrote it, in the words of the configuration.
type RuleView struct {
	Name     string         `json:"name"`
	Note     string         `json:"note,omitempty"`
	Floor    policy.Level   `json:"floor"`
	OnUnmet  policy.OnUnmet `json:"on_unmet"`
	MinTLS   uint16         `json:"min_tls,omitempty"`
	Hold     time.Duration  `json:"downgrade_hold_ns,omitempty"`
	Fallback []StepDown     `json:"fallback,omitempty"`
	Ignore   policy.Promise `json:"ignore,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Expires  time.Time      `json:"expires,omitzero"`
}

// StepDown is a weaker level that a rule permits, and from when.
type StepDown struct {
	To       policy.Level  `json:"to"`
	After    time.Duration `json:"after_ns,omitempty"`
	MinTries int           `json:"min_tries,omitempty"`
}

// Explain reasons about a delivery as Deliver would, with the same scout, rules and
// judge, and sends nothing. The error is that of ctx: we were interrupted.
func (c *Courier) Explain(ctx context.Context, q Inquiry) (Explanation, error) {
	facts, err := c.o.Scout.Facts(ctx, q.Domain)
	if err != nil {
		return Explanation{}, err
	}
	if q.Now.IsZero() {
		q.Now = time.Now()
	}
	rules := c.o.Rules()
	x := Explanation{
		Version: ExplanationVersion, At: q.Now,
		Asked: Asked{
			Domain: q.Domain, Sender: q.Sender, NullSender: q.NullSender, Credential: q.Credential, Stream: q.Stream,
			Message: q.Message, Account: q.Account, RequireTLS: q.RequireTLS,
		},
		Facts: facts, Rules: follows(rules, &facts, &q.Query), Plan: policy.Decide(&facts, rules, &q.Query),
	}
	x.Unmet = unmet(&x.Plan)
	x.Throttled = c.throttled(&x.Plan)
	if q.Probe {
		x.Probed = c.probe(ctx, &facts, &q.Query)
		x.judge()
		x.Forecast = foresee(&x.Plan, x.Probed)
	}
	return x, ctx.Err()
}

func follows(r *policy.Ruleset, f *policy.Facts, q *policy.Query) Follows {
	rule := r.For(q, "")
	out := Follows{Rule: viewOf(rule), DANE: r.DANE, InsecureMXDANE: r.InsecureMXDANE, MTASTS: r.MTASTS}
	for i := range f.Hosts {
		name := f.Hosts[i].Name
		if own := r.For(q, name); own != rule {
			if out.ByHost == nil {
				out.ByHost = map[policy.Domain]RuleView{}
			}
			out.ByHost[name] = viewOf(own)
		}
	}
	return out
}

func viewOf(r *policy.Rule) RuleView {
	v := RuleView{
		Name: r.Name, Note: r.Note, Floor: r.Floor, OnUnmet: r.OnUnmet, MinTLS: r.MinTLS, Hold: r.Hold,
		Ignore: r.Ignore, Reason: r.Reason, Expires: r.Expires,
	}
	for _, f := range r.Fallback {
		v.Fallback = append(v.Fallback, StepDown{f.To, f.After, f.MinTries})
	}
	return v
}

// unmet walks the plan with hosts that all have too little: the same walk says then
// whether mail waits or bounces, and with which code.
func unmet(p *policy.Plan) *policy.Failure {
	if p.Refusal != nil {
		return nil
	}
	for i := range p.Targets {
		if t := &p.Targets[i]; t.Barred == nil && t.Floor.Level <= policy.Plaintext && slices.Contains(t.Rungs, policy.Clear) {
			return nil // any host that takes mail at all is good enough
		}
	}
	w := p.Walk()
	for step, ok := w.Next(); ok; step, ok = w.Next() {
		w.Report(step, policy.Result{Failure: &policy.Failure{Reason: policy.BelowFloor, Host: step.Target.Host}})
	}
	return w.Failure()
}
