package queue

import (
	"encoding/json"
	"strconv"
	"time"
)

// This file writes what every message costs (record, envelope, journal entry) as JSON without reflection.
// It is encoding/json's text, octet by octet, so that nothing else need know: TestEncode compares them, and
// fails when a field is added to a type and not here.

// fields is a JSON object in the making.
type fields []byte

// key begins a member.
func (f *fields) key(name string) {
	b := *f
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(append(append(b, '"'), name...), '"', ':')
	*f = b
}

// text writes a member that is a string.
func (f *fields) text(name, value string) {
	f.key(name)
	*f = appendText(*f, value)
}

// some is text, left out when it is empty.
func (f *fields) some(name, value string) {
	if value != "" {
		f.text(name, value)
	}
}

// flag writes a member that is true, or nothing.
func (f *fields) flag(name string, value bool) {
	if value {
		f.key(name)
		*f = append(*f, "true"...)
	}
}

func (f *fields) number(name string, value int64) {
	f.key(name)
	*f = strconv.AppendInt(*f, value, 10)
}

// count is number, left out when it is 0.
func (f *fields) count(name string, value int) {
	if value != 0 {
		f.number(name, int64(value))
	}
}

func (f *fields) time(name string, t time.Time) {
	f.key(name)
	*f = append(t.AppendFormat(append(*f, '"'), time.RFC3339Nano), '"')
}

// moment is time, left out when it is zero.
func (f *fields) moment(name string, t time.Time) {
	if !t.IsZero() {
		f.time(name, t)
	}
}

func (f *fields) end() { *f = append(*f, '}') }

// rare writes a member that few values have, by encoding/json.
func (f *fields) rare(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f.key(name)
	*f = append(*f, text...)
	return nil
}

// appendText writes a string. What needs an escape is left to encoding/json.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&':
			text, _ := json.Marshal(s) // a string cannot fail
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func (m *Message) appendJSON(b []byte) []byte {
	f := fields(append(b, '{'))
	f.text("id", string(m.ID))
	f.time("accepted_at", m.AcceptedAt)
	f.some("listener", m.Listener)
	f.some("credential", m.Credential)
	f.text("sender", m.Sender.String())
	f.number("size", m.Size)
	f.flag("eight_bit", m.EightBit)
	f.flag("utf8", m.UTF8)
	f.flag("require_tls", m.RequireTLS)
	f.flag("tls_off", m.TLSOff)
	f.some("ret", m.Ret)
	f.some("envid", m.EnvelopeID)
	if m.Floor != 0 {
		f.text("floor", m.Floor.String())
	}
	if m.Account != 0 {
		f.text("account", m.Account.String())
	}
	if m.OnUnmet != 0 {
		f.text("on_unmet", m.OnUnmet.String())
	}
	f.some("stream", m.Stream)
	f.some("tag", m.Tag)
	f.moment("expires", m.Expires)
	f.end()
	return f
}

func (e *Envelope) appendJSON(b []byte) ([]byte, error) {
	f := fields(append(b, '{'))
	f.text("id", string(e.ID))
	f.text("message", string(e.Message))
	f.text("lane", string(e.Lane))
	f.key("recipients")
	if e.Recipients == nil {
		f = append(f, "null"...)
	} else {
		f = append(f, '[')
		for i := range e.Recipients {
			if i > 0 {
				f = append(f, ',')
			}
			var err error
			if f, err = e.Recipients[i].appendJSON(f); err != nil {
				return nil, err
			}
		}
		f = append(f, ']')
	}
	f.number("tries", int64(e.Tries))
	f.time("due", e.Due)
	f.flag("held", e.Held)
	f.flag("warned", e.Warned)
	f.flag("hinted", e.Hinted)
	f.moment("suspended", e.Suspended)
	f.end()
	return f, nil
}

func (r *Recipient) appendJSON(b []byte) ([]byte, error) {
	f := fields(append(b, '{'))
	f.text("address", r.Address.String())
	if r.Notify != 0 {
		f.text("notify", r.Notify.String())
	}
	f.some("orcpt", r.ORcpt)
	f.text("state", r.State.String())
	if r.Last != nil {
		if err := f.rare("last", r.Last); err != nil {
			return nil, err
		}
	}
	f.end()
	return f, nil
}

// appendJSON writes the entry. Attempt is valid and compact already.
func (j *JournalEntry) appendJSON(b []byte) ([]byte, error) {
	f := fields(append(b, '{'))
	f.number("v", int64(j.Version))
	f.text("kind", string(j.Kind))
	f.time("at", j.At)
	f.text("msg", string(j.Message))
	f.some("env", string(j.Envelope))
	f.some("domain", string(j.Domain))
	f.time("accepted_at", j.AcceptedAt)
	f.some("listener", j.Listener)
	f.some("credential", j.Credential)
	f.text("sender", j.Sender.String())
	f.some("stream", j.Stream)
	f.some("tag", j.Tag)
	f.number("size", j.Size)
	f.count("tries", j.Tries)
	f.flag("free", j.Free)
	f.some("verb", string(j.Verb))
	f.moment("due", j.Due)
	if len(j.Attempt) > 0 {
		f.key("attempt")
		f = append(f, j.Attempt...)
	}
	if len(j.Recipients) > 0 {
		f.key("recipients")
		f = append(f, '[')
		for i := range j.Recipients {
			if i > 0 {
				f = append(f, ',')
			}
			f = j.Recipients[i].appendJSON(f)
		}
		f = append(f, ']')
	}
	if len(j.Notices) > 0 {
		if err := f.rare("notices", j.Notices); err != nil {
			return nil, err
		}
	}
	if j.Operator != nil {
		if err := f.rare("operator", j.Operator); err != nil {
			return nil, err
		}
	}
	f.some("was", string(j.Was))
	f.some("of", j.Of)
	if j.Erasure != nil {
		if err := f.rare("erasure", j.Erasure); err != nil {
			return nil, err
		}
	}
	f.end()
	return f, nil
}

func (r *JournalRecipient) appendJSON(b []byte) []byte {
	f := fields(append(b, '{'))
	f.number("n", int64(r.Number))
	f.text("address", r.Address.String())
	f.text("state", r.State.String())
	if r.Level != 0 {
		f.text("level", r.Level.String())
	}
	f.some("host", string(r.Host))
	if r.Reason != 0 {
		f.text("reason", r.Reason.String())
	}
	f.count("code", r.Code)
	f.some("status", r.Status)
	f.end()
	return f
}
