package relay

import (
	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// This file writes an attempt, which every delivery has, as JSON without reflection. It is encoding/json's text,
// octet by octet: TestEncode compares them, and fails when a field is added to a type and not here.

// attemptSize has room for the record of a delivery that went well.
const attemptSize = 1 << 10

func (a *Attempt) appendJSON(b []byte) ([]byte, error) {
	o := queue.BeginObject(b)
	o.Number("v", int64(a.Version))
	o.Time("at", a.At)
	o.Text("msg", string(a.Message))
	o.Text("env", string(a.Envelope))
	o.Text("domain", string(a.Domain))
	o.Number("tries", int64(a.Tries))
	if err := a.appendPlan(&o); err != nil {
		return nil, err
	}
	o.Text("achieved", a.Achieved.String())
	o.Some("mx", string(a.Host))
	o.Value("evidence", func(b []byte) []byte { return appendEvidence(b, &a.Evidence) })
	o.Flag("reused", a.Reused)
	if len(a.Trace) > 0 {
		o.List("trace", len(a.Trace), func(b []byte, i int) []byte { return appendTried(b, &a.Trace[i]) })
	}
	if len(a.Why) > 0 {
		if err := o.Rare("why", a.Why); err != nil {
			return nil, err
		}
	}
	failure(&o, "failure", a.Failure)
	o.Moment("throttled", a.Throttled)
	if a.Outcomes == nil {
		o.Value("outcomes", func(b []byte) []byte { return append(b, "null"...) })
	} else {
		o.List("outcomes", len(a.Outcomes), func(b []byte, i int) []byte { return a.Outcomes[i].appendJSON(b) })
	}
	o.Number("facts_ns", int64(a.FactsTook))
	o.Number("open_ns", int64(a.OpenTook))
	o.Number("send_ns", int64(a.SendTook))
	o.Number("age_ns", int64(a.Age))
	o.Number("bytes", a.Bytes)
	return o.End(), nil
}

// appendPlan writes what was wanted, and why.
func (a *Attempt) appendPlan(o *queue.Object) error {
	o.Value("wanted", func(b []byte) []byte {
		floor := queue.BeginObject(b)
		floor.Text("level", a.Wanted.Level.String())
		floor.Count("needs", int(a.Wanted.Needs))
		return floor.End()
	})
	o.Text("basis", a.Basis.String())
	o.Text("rule", a.Rule)
	o.Text("on_unmet", a.OnUnmet.String())
	if len(a.Overrides) > 0 {
		if err := o.Rare("overrides", a.Overrides); err != nil {
			return err
		}
	}
	answer(o, "dnssec", a.DNSSEC)
	o.Text("sts_mode", a.STSMode.String())
	o.Some("sts_id", a.STSID)
	return nil
}

// answer writes a member that is true or false.
func answer(o *queue.Object, name string, yes bool) {
	if yes {
		o.Flag(name, true)
		return
	}
	o.Value(name, func(b []byte) []byte { return append(b, "false"...) })
}

// failure writes a member that is a failure, or nothing.
func failure(o *queue.Object, name string, f *policy.Failure) {
	if f == nil {
		return
	}
	o.Value(name, func(b []byte) []byte {
		o := queue.BeginObject(b)
		o.Text("reason", f.Reason.String())
		o.Some("host", string(f.Host))
		o.Some("detail", f.Detail)
		o.Some("status", f.Status)
		o.Flag("final", f.Final)
		return o.End()
	})
}

func appendEvidence(b []byte, e *policy.Evidence) []byte {
	o := queue.BeginObject(b)
	o.Text("rung", e.Rung.String())
	o.Text("route", e.Route.String())
	o.Text("peer", e.Peer.String())
	failure(&o, "webpki", e.WebPKI)
	failure(&o, "tlsa", e.TLSA)
	o.Count("version", int(e.Version))
	o.Count("suite", int(e.Suite))
	o.Count("group", int(e.Group))
	o.Flag("resumed", e.Resumed)
	o.Flag("requiretls", e.RequireTLS)
	o.Some("certificate", e.Certificate)
	o.Some("spki", e.SPKI)
	o.Some("not_after", e.NotAfter)
	return o.End()
}

func appendTried(b []byte, t *policy.Tried) []byte {
	o := queue.BeginObject(b)
	o.Text("host", string(t.Host))
	addr, _ := t.Addr.MarshalText() // never fails
	o.Text("addr", string(addr))
	o.Text("rung", t.Rung.String())
	if t.Level != 0 {
		o.Text("level", t.Level.String())
	}
	o.Flag("kept", t.Kept)
	if t.Reason != 0 {
		o.Text("reason", t.Reason.String())
	}
	o.Some("detail", t.Detail)
	o.Number("ms", t.Millis)
	return o.End()
}

func (a *AttemptOutcome) appendJSON(b []byte) []byte {
	o := queue.BeginObject(b)
	o.Number("n", int64(a.Recipient))
	o.Text("kind", a.Kind.String())
	if a.Level != 0 {
		o.Text("level", a.Level.String())
	}
	if a.Reason != 0 {
		o.Text("reason", a.Reason.String())
	}
	o.Count("code", a.Code)
	o.Some("status", a.Status)
	return o.End()
}
