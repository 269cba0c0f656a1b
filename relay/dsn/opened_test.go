package dsn

import (
	"bufio"
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"testing"
)

// opened is a notice taken apart by the standard library.
type opened struct {
	mail.Header
	types  []string
	bodies [][]byte // as on the wire, encoded
	heads  []textproto.MIMEHeader
	fields []textproto.MIMEHeader // of the status part: message first
}

func open(t testing.TB, content []byte) opened {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		t.Fatalf("%v\n%s", err, content)
	}
	o := opened{Header: m.Header}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("RFC 6522: content type %q %v %v", kind, params, err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		o.types, o.bodies, o.heads = append(o.types, kind), append(o.bodies, b), append(o.heads, p.Header)
	}
	if len(o.bodies) < 2 {
		t.Fatalf("%d parts\n%s", len(o.bodies), content)
	}
	status := decode(t, o, 1)
	tr := textproto.NewReader(bufio.NewReader(bytes.NewReader(status)))
	for {
		h, err := tr.ReadMIMEHeader()
		if len(h) > 0 {
			o.fields = append(o.fields, h)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("status part: %v\n%s", err, status)
		}
	}
	return o
}

func decode(t testing.TB, o opened, i int) []byte {
	t.Helper()
	if o.heads[i].Get("Content-Transfer-Encoding") != quotedPrintable {
		return o.bodies[i]
	}
	b, err := io.ReadAll(newQPReader(o.bodies[i]))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkWire checks what every notice must keep on the wire.
func checkWire(t testing.TB, content []byte) {
	t.Helper()
	if !fitsLines(content) {
		t.Errorf("bare CR or LF, NUL, or a line over %d octets (RFC 5322 2.1.1):\n%q", maxLine, content)
	}
	if !bytes.HasSuffix(content, []byte("\r\n")) {
		t.Error("the last line has no end")
	}
}
