package smtpclient

import "testing"

// A refused MAIL on an old connection may mean the connection: it is asked again on a fresh one. A host that says
// the same there means the sender, and the next one refused so costs no connection; another code still does.
func TestSenderRefused(t *testing.T) {
	t.Parallel()
	fine, no := mailFrom+rcptB+chunk+ok+ok+ok, mailFrom+rcptB+chunk+"S: 550 no\nS: 503 no\nS: 503 no\n"
	h := startHost(t,
		greetAll+fine+mailFrom+rcptB+chunk+"S: 550 no\nDROP",
		greetAll+no+"C: RSET\n"+mailFrom+rcptB+chunk+ok+ok+ok+ok+no+"C: RSET\n"+mailFrom+rcptB+chunk+ok+"S: 450 that was the last\nDROP",
		greetAll+fine+"IDLE")
	p := newPool(t, options())
	for i, tt := range []struct {
		want        string
		connections int
	}{{"ok 250", 1}, {"reply-permanent 5.0.0 550", 2}, {"ok 250", 2}, {"reply-permanent 5.0.0 550", 2}, {"ok 250", 3}} {
		sendNext(t, p, h, i, tt.want)
		if n := h.connections(); n != tt.connections {
			t.Errorf("%d connections after message %d, want %d", n, i+1, tt.connections)
		}
	}
}

// A host that refuses RSET, against RFC 5321 4.3.2, has still said what became of the flight that it came with:
// nothing is sent twice for it. The connection ends with that message.
func TestResetRefused(t *testing.T) {
	t.Parallel()
	h := startHost(t,
		greetAll+mailFrom+rcptB+chunk+ok+"S: 550 no\nS: 503 no\n"+
			"C: RSET\n"+mailFrom+rcptB+chunk+"S: 500 what?\n"+ok+ok+ok+"C: QUIT",
		greetAll+mailFrom+rcptB+chunk+ok+ok+ok+"C: QUIT")
	p := newPool(t, options())
	for i, want := range []string{"reply-permanent 5.0.0 550", "ok 250", "ok 250"} {
		sendNext(t, p, h, i, want)
	}
	if n := h.connections(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}
