package queue

import (
	"encoding/json"
	"testing"
	"time"
)

func TestID(t *testing.T) {
	t.Parallel()
	seen := make(map[ID]bool)
	at := time.Date(2026, 11, 23, 1, 2, 3, 456_000_000, time.UTC)
	last := ID("")
	for i := range 1000 {
		now := at.Add(time.Duration(i) * time.Millisecond)
		id := NewID(now)
		if _, err := ParseID(string(id)); err != nil || seen[id] || id <= last || !id.Time().Equal(now) {
			t.Fatalf("ID %q after %q: time %v, %v", id, last, id.Time(), err)
		}
		seen[id], last = true, id
		if got, n, err := id.EnvelopeID(i).Split(); err != nil || got != id || n != i {
			t.Fatalf("%q splits into %q and %d, %v", id.EnvelopeID(i), got, n, err)
		}
	}
	for _, s := range []string{"", "x", string(last) + "0", "8" + string(last[1:]), "i" + string(last[1:]), "I" + string(last[1:])} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("%q is an ID", s)
		}
	}
	for _, s := range []string{"", string(last), string(last) + "-", string(last) + "-01", string(last) + "-x", "x-1"} {
		if _, _, err := EnvelopeID(s).Split(); err == nil {
			t.Errorf("%q is an envelope ID", s)
		}
	}
}

func TestEnumWords(t *testing.T) {
	t.Parallel()
	in := Envelope{Recipients: []Recipient{{State: Bounced, Notify: NotifySuccess | NotifyDelay, Last: &Outcome{Kind: BouncedNow}}, {}}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out Envelope
	if err := json.Unmarshal(b, &out); err != nil || out.Recipients[0].State != Bounced ||
		out.Recipients[0].Notify != NotifySuccess|NotifyDelay || out.Recipients[0].Last.Kind != BouncedNow {
		t.Errorf("%s came back as %+v, %v", b, out, err)
	}
	if err := json.Unmarshal([]byte(`{"recipients":[{"state":"lost"}]}`), &out); err == nil {
		t.Error("an unknown state was read")
	}
}

func TestParseNotify(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Notify{
		"NEVER": NotifyNever, "success": NotifySuccess, "SUCCESS,failure,Delay": NotifySuccess | NotifyFailure | NotifyDelay,
		"FAILURE,FAILURE": NotifyFailure,
	} {
		if got, err := ParseNotify(s); err != nil || got != want {
			t.Errorf("RFC 3461 4.1 NOTIFY=%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "NEVER,SUCCESS", "SUCCESS,", "ALWAYS", "SUCCESS FAILURE"} {
		if got, err := ParseNotify(s); err == nil {
			t.Errorf("RFC 3461 4.1 NOTIFY=%s: %v, want an error", s, got)
		}
	}
}
