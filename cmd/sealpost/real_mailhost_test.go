package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// mailHost is the least mail host that a sender can be content with. It takes everything and keeps it.
type mailHost struct {
	host string // loopback address
	port int
	// upgrade does the TLS after STARTTLS and has speak talk inside; nil: STARTTLS is not offered.
	upgrade func(ctx context.Context, c net.Conn, speak func(io.Reader, io.Writer) error) error

	mu     sync.Mutex
	taken  []taken
	failed []string // sessions that went wrong here, for the log
}

// taken is one message with how it came.
type taken struct {
	to      []string
	overTLS bool
	data    string // dots unstuffed
}

func startMailHost(t *testing.T, upgrade func(context.Context, net.Conn, func(io.Reader, io.Writer) error) error) *mailHost {
	t.Helper()
	h := &mailHost{upgrade: upgrade}
	h.host, h.port = freeAddr(t)
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", h.host, h.port))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			wg.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				h.session(ctx, c)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		wg.Wait()
		if t.Failed() {
			t.Logf("mail host: sessions that failed: %q", h.failed)
		}
	})
	return h
}

// mail returns what was taken so far.
func (h *mailHost) mail() []taken {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.taken)
}

// to returns the messages for a recipient.
func (h *mailHost) to(address string) (data []string) {
	for _, m := range h.mail() {
		if slices.Contains(m.to, address) {
			data = append(data, m.data)
		}
	}
	return data
}

// session serves one connection: clear until STARTTLS, then inside TLS.
func (h *mailHost) session(ctx context.Context, c net.Conn) {
	upgrade, err := h.dialogue(c, c, false)
	if upgrade {
		err = h.upgrade(ctx, c, func(r io.Reader, w io.Writer) error {
			_, err := h.dialogue(r, w, true)
			return err
		})
	}
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.failed = append(h.failed, err.Error())
	}
}

// dialogue is the server's side of SMTP, as little as a sender needs. It returns true after STARTTLS.
func (h *mailHost) dialogue(in io.Reader, w io.Writer, overTLS bool) (upgrade bool, err error) {
	r := bufio.NewReader(in)
	var to []string
	reply := func(s string) { _, _ = io.WriteString(w, s+"\r\n") } // the next read tells of a lost connection
	if !overTLS {
		reply("220 mx.sink.test ESMTP")
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false, err
		}
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		switch verb {
		case "EHLO":
			if overTLS || h.upgrade == nil {
				reply("250-mx.sink.test\r\n250 8BITMIME")
			} else {
				reply("250-mx.sink.test\r\n250-8BITMIME\r\n250 STARTTLS")
			}
		case "MAIL":
			to = nil
			reply("250 fine")
		case "RCPT":
			_, address, _ := strings.Cut(line, "<")
			address, _, _ = strings.Cut(address, ">")
			to = append(to, address)
			reply("250 fine")
		case "STARTTLS":
			reply("220 go ahead")
			return true, nil
		case "DATA":
			reply("354 go on")
			data, err := readData(r)
			if err != nil {
				return false, err
			}
			h.mu.Lock()
			h.taken = append(h.taken, taken{to, overTLS, data})
			h.mu.Unlock()
			reply("250 taken")
		case "QUIT":
			reply("221 bye")
			return false, nil
		default:
			reply("250 fine")
		}
	}
}

// readData reads up to the final dot and takes the stuffed dots away (RFC 5321 4.5.2).
func readData(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line == ".\r\n" {
			return b.String(), nil
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
}
