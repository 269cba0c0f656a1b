package submission

import (
	"strings"
	"testing"
)

func TestSubmitInClear(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.hello(t)
	r := w.send(plainMail)
	m := d.sink.only(t)
	if want := "250 2.6.0 queued as " + string(m.message.ID); r != want {
		t.Errorf("reply %q, want %q", r, want)
	}
	if !strings.Contains(m.body, "Message-ID: <"+string(m.message.ID)+"@relay.example>") {
		t.Errorf("no Message-ID: %q", m.body)
	}
	t.Log(m.body)
	w.do("QUIT", "221")
	w.closed()
}

func TestSubmitUnderTLS(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	w := d.secured(t)
	w.send(plainMail)
	w.send(plainMail)
	t.Log(d.sink.all()[0].body)
	w.do("QUIT", "221")
	w.closed()
}
