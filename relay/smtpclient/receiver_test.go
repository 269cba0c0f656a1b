package smtpclient

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// receiver is go-smtp's server: an independent reading of the protocol.
type receiver struct {
	mu   sync.Mutex
	mail []received
}

type received struct {
	from string
	opts smtp.MailOptions
	to   []string
	rcpt []smtp.RcptOptions
	body string
}

func (r *receiver) NewSession(*smtp.Conn) (smtp.Session, error) { return &receiving{r: r}, nil }

type receiving struct {
	r *receiver
	m received
}

func (s *receiving) Reset()        { s.m = received{} }
func (s *receiving) Logout() error { return nil }

func (s *receiving) Mail(from string, o *smtp.MailOptions) error {
	s.m = received{from: from, opts: *o}
	return nil
}

func (s *receiving) Rcpt(to string, o *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "no@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no"}
	}
	s.m.to, s.m.rcpt = append(s.m.to, to), append(s.m.rcpt, *o)
	return nil
}

func (s *receiving) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.m.body = string(b)
	s.r.mu.Lock()
	s.r.mail = append(s.r.mail, s.m)
	s.r.mu.Unlock()
	return nil
}

func startReceiver(t *testing.T) (*receiver, netip.AddrPort) {
	t.Helper()
	r := &receiver{}
	s := smtp.NewServer(r)
	s.Domain = "mx.example.test"
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{newCertificate(t)}}
	s.EnableSMTPUTF8, s.EnableREQUIRETLS, s.EnableDSN = true, true, true
	s.MaxMessageBytes = 10 << 20
	s.MaxLineLength = 128 << 10 // S12: a chunk in the same packet as its command counts as a line
	s.ReadTimeout, s.WriteTimeout = 10*time.Second, 10*time.Second
	s.ErrorLog = log.New(io.Discard, "", 0)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close(); <-served })
	return r, netip.MustParseAddrPort(ln.Addr().String())
}

func TestIndependentReceiver(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("PlainData %v", plain), func(t *testing.T) {
			t.Parallel()
			r, at := startReceiver(t)
			o := options()
			o.PlainData = plain
			p := newPool(t, o)
			bodies := []string{
				"", ".\r\n", "Subject: x\r\n\r\n.\r\n..\r\n.a\r\n\r\n.", "\r\n\r\n", "Subject: gr\u00fc\u00df\r\n\r\n\u00e4\r\n",
				randomLines(chunkSize - 1000), randomLines(chunkSize * 3), randomLines(4 << 20),
			}
			for i := range bodies {
				if b := bodies[i]; b != "" && !strings.HasSuffix(b, "\r\n") {
					bodies[i] += "\r\n"
				}
			}
			for _, body := range bodies {
				s, _, f := p.Open(t.Context(), step(at, policy.Modern))
				if f != nil {
					t.Fatal(f)
				}
				m := mail(body, "b@example.test", "no@example.test", "c@example.test")
				m.Message.EightBit, m.Message.UTF8, m.RequireTLS = true, true, true
				m.Message.Ret, m.Message.EnvelopeID = "FULL", "x y+z"
				m.Recipients[0].Notify = queue.NotifyFailure
				m.Recipients[2].ORcpt = "rfc822;orig=c@example.test"
				got := results(s.Send(t.Context(), m))
				if fmt.Sprint(got) != "[ok 250 reply-permanent 5.1.1 550 ok 250]" {
					t.Fatalf("%d octets: %q", len(body), got)
				}
				s.Release()
			}
			if len(r.mail) != len(bodies) {
				t.Fatalf("%d messages, want %d", len(r.mail), len(bodies))
			}
			for i, m := range r.mail {
				if m.body != bodies[i] {
					t.Errorf("content %d arrived changed", i)
				}
				if m.from != "a@relay.test" || fmt.Sprint(m.to) != "[b@example.test c@example.test]" {
					t.Errorf("from %s to %v", m.from, m.to)
				}
				header := strings.Contains(strings.SplitN(m.body, "\r\n\r\n", 2)[0], "\u00fc")
				if m.opts.Body != smtp.Body8BitMIME || m.opts.Size != int64(len(m.body)) || !m.opts.RequireTLS ||
					m.opts.UTF8 != header || m.opts.Return != smtp.DSNReturnFull || m.opts.EnvelopeID != "x y+z" {
					t.Errorf("content %d: %+v", i, m.opts)
				}
				if m.rcpt[0].Notify[0] != smtp.DSNNotifyFailure || m.rcpt[1].OriginalRecipient != "orig=c@example.test" {
					t.Errorf("%+v", m.rcpt)
				}
			}
		})
	}
}

// randomLines is about n octets of lines, many of which begin with dots.
func randomLines(n int) string {
	var b strings.Builder
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for b.Len() < n {
		b.WriteString(strings.Repeat(".", r.IntN(3)))
		b.WriteString(strings.Repeat("x", r.IntN(90)))
		b.WriteString("\r\n")
	}
	return b.String()
}
