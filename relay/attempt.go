package relay

import (
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// AttemptVersion is the version of the Attempt record.
const AttemptVersion = 2

// Attempt is one walked plan as recorded: journal payload, log, metrics and
// status page all read it (policy: what is recorded of every attempt). It holds
// no address and no content.
type Attempt struct {
	Version  int              `json:"v"`
	At       time.Time        `json:"at"`
	Message  queue.ID         `json:"msg"`
	Envelope queue.EnvelopeID `json:"env"`
	Domain   policy.Domain    `json:"domain"`
	Tries    int              `json:"tries"` // this attempt's number, from 1
	// Wanted is the floor and who set it.
	Wanted  policy.Floor   `json:"wanted"`
	Basis   policy.Basis   `json:"basis"`
	Rule    string         `json:"rule"`
	OnUnmet policy.OnUnmet `json:"on_unmet"`
	// Overrides are the domain's promises that a rule set aside.
	Overrides []policy.Override `json:"overrides,omitempty"`
	// DNSSEC: secure answers could be believed. STSMode and STSID are the MTA-STS policy in force.
	DNSSEC  bool           `json:"dnssec"`
	STSMode policy.STSMode `json:"sts_mode"`
	STSID   string         `json:"sts_id,omitempty"`
	// Achieved is the best level at which a recipient was delivered; Unset when none was.
	Achieved policy.Level    `json:"achieved"`
	Host     policy.Domain   `json:"mx,omitempty"` // host of the last session
	Evidence policy.Evidence `json:"evidence"`     // of the last session
	Reused   bool            `json:"reused,omitempty"`
	Trace    policy.Trace    `json:"trace,omitempty"`
	Why      []policy.Note   `json:"why,omitempty"`
	// Failure is why the attempt did not deliver to everybody; nil when it did.
	Failure *policy.Failure `json:"failure,omitempty"`
	// Throttled: hosts wanted less of us, so the attempt burned no try; the first of them
	// may be asked again then.
	Throttled time.Time        `json:"throttled,omitzero"`
	Outcomes  []AttemptOutcome `json:"outcomes"`
	// Durations of the phases.
	FactsTook time.Duration `json:"facts_ns"`
	OpenTook  time.Duration `json:"open_ns"`
	SendTook  time.Duration `json:"send_ns"`
	// Age is the time since acceptance.
	Age time.Duration `json:"age_ns"`
	// Bytes is the size of the message.
	Bytes int64 `json:"bytes"`
}

// AttemptOutcome is one recipient's outcome, by number in the envelope.
type AttemptOutcome struct {
	Recipient int               `json:"n"`
	Kind      queue.OutcomeKind `json:"kind"`
	Level     policy.Level      `json:"level,omitempty"`
	Reason    policy.Reason     `json:"reason,omitempty"`
	Code      int               `json:"code,omitempty"`
	Status    string            `json:"status,omitempty"`
}
