package policy

import (
	"net/netip"
	"time"
)

// Plan is the judge's decision for one delivery: targets in order, each with a
// floor and rungs; or a refusal. The zero Plan refuses.
type Plan struct {
	Domain  Domain  `json:"domain"`
	Floor   Floor   `json:"floor"` // the highest floor that is not a host's own promise
	Basis   Basis   `json:"basis"`
	Rule    string  `json:"rule"` // name of the rule that matched
	OnUnmet OnUnmet `json:"on_unmet"`
	// Hold: the downgrade hold is on. A host whose handshake succeeded, and that failed
	// behind it, is waited for so long.
	Hold bool `json:"hold,omitempty"`
	// First: there was no attempt before. A host that cannot do STARTTLS now (454) is
	// waited for once.
	First   bool     `json:"first,omitempty"`
	Targets []Target `json:"targets,omitempty"`
	// Refusal: nothing can be tried, and why. A zero Plan has no targets, and
	// [Walk.Failure] reports that as an internal fault.
	Refusal *Failure `json:"refusal,omitempty"`
	Why     []Note   `json:"why,omitempty"`
	// Overrides are the promises of the domain that a rule set aside here: journalled
	// and counted at each use (policy: floors).
	Overrides []Override `json:"overrides,omitempty"`
}

// Override is one use of a rule that sets a domain's promise aside.
type Override struct {
	Rule    string    `json:"rule"`
	Host    Domain    `json:"host"`
	Ignored Promise   `json:"ignored"`
	Reason  string    `json:"reason"`
	Expires time.Time `json:"expires"`
}

// Note is one line of the explanation, made while deciding.
type Note struct {
	Host Domain `json:"host,omitempty"`
	Text string `json:"text"`
}

// Target is one host of a plan.
type Target struct {
	Host       Domain           `json:"host"` // as in the MX record
	Preference uint16           `json:"preference"`
	Addrs      []netip.AddrPort `json:"addrs"`
	Floor      Floor            `json:"floor"`
	Basis      Basis            `json:"basis"`
	Rungs      []Rung           `json:"rungs"` // strongest first
	Route      Route            `json:"route"` // what the facts prove about the route
	SNI        Domain           `json:"sni"`
	TLSA       []TLSARecord     `json:"tlsa,omitempty"`  // usable ones only
	Names      []Domain         `json:"names,omitempty"` // reference names for DANE-TA (RFC 7672 3.2.2)
	// Rule is the name of the rule for this host, and OnUnmet what becomes of mail whose
	// floor is not reached here.
	Rule    string  `json:"rule"`
	OnUnmet OnUnmet `json:"on_unmet"`
	// Barred: the host is not used now, and why; it has no rungs. The walk passes it over
	// in its turn, as if it could not be reached (RFC 8461 8.4).
	Barred *Failure `json:"barred,omitempty"`
	// Expect is the level that the host will probably offer, by its memory; Unset: nobody knows.
	Expect Level `json:"expect,omitempty"`
	// Later: the rule allows a lower rung here, or the hold will end, but not yet.
	Later bool `json:"later,omitempty"`
	// MinTLS is the least TLS version of the rule (tls.VersionTLS12...); 0: none.
	MinTLS uint16 `json:"min_tls,omitempty"`
	// RequireTLS asks for the REQUIRETLS parameter to be sent where offered.
	RequireTLS bool `json:"require_tls,omitempty"`
}

// Step is one try: a host, an address and a rung.
type Step struct {
	Target *Target // owned by the plan; read only
	Addr   netip.AddrPort
	Rung   Rung
	// Kept: a session of this step was opened before and kept; it is to be used now.
	Kept bool
}

// Result is what came of a step.
type Result struct {
	// Failure is nil when the session reached its floor and did its work.
	Failure *Failure
	// Level is what was achieved; Unset when no session stood.
	Level Level
	// Opened: a session stood at a level that reached the floor, whatever came
	// of the transaction. The walk does not go below a rung that was opened.
	Opened bool
	// Secured: a TLS handshake succeeded, and something else failed behind it: TLS
	// was to be had there, so the walk does not go below that rung while the plan's hold is on.
	Secured bool
	// Kept: a session stood at a level that reached the floor, and is kept open because
	// [Walk.Keep] asked for it.
	Kept bool
	// Took is how long the step took.
	Took time.Duration
}

// Tried is one entry of a trace.
type Tried struct {
	Host   Domain         `json:"host"`
	Addr   netip.AddrPort `json:"addr"`
	Rung   Rung           `json:"rung"`
	Level  Level          `json:"level,omitempty"`
	Kept   bool           `json:"kept,omitempty"`   // the session was kept open while others were tried
	Reason Reason         `json:"reason,omitempty"` // unset when it went well
	Detail string         `json:"detail,omitempty"`
	Millis int64          `json:"ms"`
}

// Trace is the record of a walk, in order.
type Trace []Tried
