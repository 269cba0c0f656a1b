package smtpclient

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// moody is a host that answers as chance has it: it refuses, says 421, hangs up before
// or behind taking a message, stalls, and cuts its replies anywhere. It never says what
// nobody asked for, and keeps a book of what it took.
type moody struct {
	seed    uint64
	trouble float64 // chance of trouble with each command
	caps    []string

	mu    sync.Mutex
	taken map[string]map[string]int // content, recipient, and how often
}

func (h *moody) serve(n int, c *farConn) {
	rng := rand.New(rand.NewPCG(h.seed, uint64(n)))
	r := bufio.NewReaderSize(c, 64<<(13*rng.IntN(2))) // what it has not read when it ends is answered by a reset
	var out []byte
	say := func(s string) {
		for s += "\r\n"; len(s) > 0; {
			cut := len(s)
			if rng.Float64() < h.trouble {
				cut = 1 + rng.IntN(len(s))
			}
			out = append(out, s[:cut]...)
			s = s[cut:]
			if rng.IntN(4) == 0 || len(s) > 0 {
				_, _ = c.Write(out)
				out = nil
			}
		}
	}
	defer func() {
		if rng.IntN(2) == 0 {
			_, _ = c.Write(out)
		}
	}()
	var rcpt []string
	var body strings.Builder
	mail, soiled := false, false
	clear := func() { rcpt, mail = nil, false; body.Reset() }
	say("220 moody")
	for {
		if r.Buffered() == 0 {
			_, _ = c.Write(out)
			out = nil
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		verb, arg, _ := strings.Cut(line, " ")
		bad := ""
		if verb != "EHLO" && verb != "QUIT" && rng.Float64() < h.trouble {
			switch rng.IntN(10) {
			case 0:
				return // without a word
			case 1:
				say("421 4.3.2 enough")
				return
			case 2:
				_, _ = c.Write(out)
				out = nil
				_, _ = io.Copy(io.Discard, r) // it has gone to sleep
				return
			case 3:
				time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
			case 4, 5:
				bad = "550 5.7.1 no"
			case 6, 7:
				bad = "450 4.7.1 not now"
			case 8:
				bad = "503 5.5.1 what"
			case 9:
				bad = "502 5.5.2 what"
			}
		}
		if verb == "RSET" {
			bad = ""
		}
		var content []byte
		size, last, _ := bdat(line)
		if verb == "BDAT" {
			content = make([]byte, size)
			if _, err := io.ReadFull(r, content); err != nil {
				return
			}
		}
		switch {
		case bad != "":
			soiled = soiled || verb == "BDAT"
			say(bad)
		case verb == "EHLO":
			say("250-moody")
			for _, cap := range h.caps {
				say("250-" + cap)
			}
			say("250 8BITMIME")
		case verb == "QUIT":
			return
		case verb == "RSET":
			clear()
			soiled = false
			say("250 clean")
		case verb == "MAIL" && !mail && !soiled:
			mail = true
			say("250 sender")
		case verb == "RCPT" && mail:
			rcpt = append(rcpt, strings.TrimSuffix(strings.TrimPrefix(arg, "TO:<"), ">"))
			say("250 recipient")
		case verb == "DATA" && (len(rcpt) > 0 || mail && rng.IntN(2) == 0):
			say("354 go")
			_, _ = c.Write(out)
			out = nil
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				body.WriteString(strings.TrimPrefix(line, "."))
			}
			if len(rcpt) == 0 {
				say("554 nobody")
			} else if !h.decide(rng, rcpt, body.String(), say) {
				return
			}
			clear()
		case verb == "BDAT" && (len(rcpt) == 0 || soiled):
			soiled = true
			say("503 5.5.1 nobody")
		case verb == "BDAT" && last:
			body.Write(content)
			if !h.decide(rng, rcpt, body.String(), say) {
				return
			}
			clear()
		case verb == "BDAT":
			body.Write(content)
			say("250 more")
		default:
			say("503 5.5.1 bad sequence")
		}
	}
}

// decide takes a whole message or not, and reports whether the host lives on.
func (h *moody) decide(rng *rand.Rand, rcpt []string, body string, say func(string)) bool {
	trouble := rng.Float64() < h.trouble
	if trouble && rng.IntN(2) == 0 {
		say("554 5.6.0 no")
		return true
	}
	h.mu.Lock()
	if h.taken[body] == nil {
		h.taken[body] = map[string]int{}
	}
	for _, r := range rcpt {
		h.taken[body][r]++
	}
	h.mu.Unlock()
	if trouble { // the reply is lost
		return false
	}
	say("250 2.0.0 taken")
	return true
}

// brittle is a connection whose writes fail at times, after a part was written.
type brittle struct {
	net.Conn
	rng     *rand.Rand // owned by who writes
	trouble float64
}

func (b *brittle) Write(p []byte) (int, error) {
	if b.rng.Float64() >= b.trouble {
		return b.Conn.Write(p)
	}
	n, _ := b.Conn.Write(p[:b.rng.IntN(len(p))])
	return n, os.ErrDeadlineExceeded
}

// account has many messages carried to a moody host and compares what each courier was
// told with the host's book.
func account(t *testing.T, seed uint64, trouble, shape uint8) {
	rng := rand.New(rand.NewPCG(seed, 7))
	h := &moody{seed: seed, trouble: float64(trouble%64) / 256, taken: map[string]map[string]int{}}
	h.caps = [][]string{{"PIPELINING", "CHUNKING"}, {"PIPELINING"}, {"PIPELINING", "CHUNKING", "LIMITS MAILMAX=5"}, {}}[shape%4]
	f := &far{oneWay: 10 * time.Millisecond, serve: h.serve}
	o := options()
	o.Window = 1 + int(shape>>2)%8
	var dialled atomic.Uint64
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := f.dial(ctx, network, address)
		return &brittle{Conn: c, rng: rand.New(rand.NewPCG(seed, dialled.Add(1))), trouble: h.trouble / 4}, err
	}
	o.ConnectionsPerHost = 1 + int(shape>>5)%3
	p := newPool(t, o)
	if seed%2 == 1 {
		p.faceOf = func(*conn) face { return face{1} } // all names are one host
	}
	const n, couriers = 30, 12
	type told struct{ a, b string }
	say := make([]told, n)
	sizes := make([]int, n)
	limits := make([]time.Duration, n)
	for i := range n {
		sizes[i] = 64 + rng.IntN(8000)
		if rng.IntN(12) == 0 {
			sizes[i] = chunkSize + rng.IntN(chunkSize)
		}
		limits[i] = time.Hour
		if rng.IntN(20) == 0 {
			limits[i] = time.Duration(rng.IntN(200)) * time.Millisecond
		}
	}
	var next atomic.Int32
	var group sync.WaitGroup
	for range couriers {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				ctx, cancel := context.WithTimeout(t.Context(), limits[i])
				st := step(somewhere, policy.Clear)
				st.Target.Host = policy.Domain(fmt.Sprintf("mx%d.example.test", seed%2*uint64(i%3)))
				s, _, f := p.Open(ctx, st)
				if f != nil {
					say[i] = told{"not opened", "not opened"}
					cancel()
					continue
				}
				got := results(s.Send(ctx, mail(numbered(i, sizes[i]), fmt.Sprintf("a%d@example.test", i), fmt.Sprintf("b%d@example.test", i))))
				say[i] = told{got[0], got[1]}
				s.Release()
				cancel()
			}
		})
	}
	group.Wait()
	p.Close()
	f.group.Wait()
	for i := range n {
		body := numbered(i, sizes[i])
		has := h.taken[body]
		delete(h.taken, body)
		for j, what := range []string{say[i].a, say[i].b} {
			rcpt := fmt.Sprintf("%c%d@example.test", 'a'+j, i)
			least, most := 0, 0
			switch what {
			case "ok 250":
				least, most = 1, 1
			case "uncertain":
				most = 1
			case "":
				t.Errorf("message %d: nothing came of %s", i, rcpt)
			}
			if has[rcpt] < least || has[rcpt] > most {
				t.Errorf("message %d: %s is %q, and the host has it %d times", i, rcpt, what, has[rcpt])
			}
		}
	}
	for body := range h.taken {
		t.Errorf("the host has a content that nobody sent: %.50q, %d octets", body, len(body))
	}
	if held := p.held(); held != 0 {
		t.Errorf("%d slots are still held", held)
	}
}

// FuzzAccount: each recipient gets one result; nobody is told of a delivery that was
// none, nor of a failure where the host has the message; contents never mix.
func FuzzAccount(f *testing.F) {
	for i := range uint64(64) {
		f.Add(i, uint8(i*5), uint8(i*37))
	}
	f.Fuzz(func(t *testing.T, seed uint64, trouble, shape uint8) {
		synctest.Test(t, func(t *testing.T) { account(t, seed, trouble, shape) })
	})
}
