//go:build bench

package main_test

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy/policytest"
)

// rawJob says what a raw relay is like.
type rawJob struct {
	Addr, Sink string
	Cert, Key  string // files
	Dir        string // where bodies go; "": they pass through
	Size       int    // octets of each body as it comes in
	Chunking   bool   // the sink takes BDAT
}

// rawRelay is what no relay can do without, as the reference for large bodies: TLS in, AES-256-GCM in the frames of
// queue/seal, the disk with its sync before the 250, AES-256-GCM and TLS out. It knows how long a body is, so that it looks at none
// of its octets, stores it as it came, and writes it out with no dot to stuff. Its reads and writes are of a frame.
type rawRelay struct {
	job       rawJob
	in, out   *tls.Config
	aead      cipher.AEAD
	envelopes chan rawMessage
}

// rawMessage is what waits to go out.
type rawMessage struct {
	path string
	tags []byte
}

// Sizes as in queue/seal, and as many couriers as Sealpost has for one host.
const (
	rawFrame    = 64 << 10
	rawTag      = 16
	rawCouriers = 20
)

// rawOnDisk and rawThrough are the raw relays of benchRelays: with the disk, and without.
func rawOnDisk(t *testing.T, s benchSite) relay  { return startRaw(t, s, t.TempDir()) }
func rawThrough(t *testing.T, s benchSite) relay { return startRaw(t, s, "") }

func startRaw(t *testing.T, s benchSite, dir string) relay {
	t.Helper()
	files := sharedDir(t)
	chain, key := policytest.PEM(s.ca.Leaf(policytest.LeafOptions{Names: []string{submissionName}}))
	host, port := freeAddr(t)
	job := rawJob{
		Addr: fmt.Sprintf("%s:%d", host, port), Sink: fmt.Sprintf("%s:%d", s.resolver, s.sinkPort), Dir: dir,
		Cert: write(t, files, "raw.pem", chain), Key: write(t, files, "raw.key", key),
		Size: len(benchBody(s.size)), Chunking: s.chunking,
	}
	c := startBenchChild(t, "raw", job)
	var ready bool
	c.read(t, &ready)
	return relay{job.Addr, c.cmd.Process.Pid}
}

// runRaw is the process of a raw relay; it ends with its standard input.
func runRaw(t *testing.T, job rawJob) {
	cert, err := tls.LoadX509KeyPair(job.Cert, job.Key)
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	r := &rawRelay{
		job: job, in: &tls.Config{Certificates: []tls.Certificate{cert}},
		out:  &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}},
		aead: aead, envelopes: make(chan rawMessage, 1<<20),
	}
	for range rawCouriers {
		go r.carry()
	}
	l, err := net.Listen("tcp", job.Addr)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if err := r.serve(c); err != nil && err != io.EOF {
					fmt.Fprintln(os.Stderr, "raw relay:", err) // the source, or the sink's count, fails the row
				}
			}()
		}
	}()
	answer(t, true)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// serve takes messages over one connection.
func (r *rawRelay) serve(c net.Conn) error {
	defer func() { _ = c.Close() }()
	in := bufio.NewReaderSize(c, 4096)
	say := func(text string) { _, _ = c.Write([]byte(text)) } // a source that is gone is noticed by the reader
	say("220 raw ESMTP\r\n")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		switch strings.ToUpper(line[:4]) {
		case "EHLO":
			say("250-raw\r\n250 STARTTLS\r\n")
		case "STAR":
			say("220 go on\r\n")
			c = tls.Server(c, r.in)
			in.Reset(c)
		case "DATA":
			say("250 ok\r\n250 ok\r\n354 go on\r\n")
			if err := r.take(in); err != nil {
				return err
			}
			say("250 taken\r\n")
		case "QUIT":
			say("221 bye\r\n")
			return nil
		}
	}
}

// take takes one body in, and on when there is no disk.
func (r *rawRelay) take(in io.Reader) error {
	if r.job.Dir == "" {
		return r.pass(in)
	}
	f, err := os.CreateTemp(r.job.Dir, "body")
	if err != nil {
		return err
	}
	defer f.Close()
	m := rawMessage{path: f.Name()}
	buf := make([]byte, rawFrame+rawTag)
	for n, left := 0, r.job.Size; left > 0; n++ {
		plain := buf[:min(left, rawFrame)]
		if _, err := io.ReadFull(in, plain); err != nil {
			return err
		}
		sealed := r.aead.Seal(plain[:0], rawNonce(n), plain, nil)
		m.tags = append(m.tags, sealed[len(plain):]...)
		if _, err := f.Write(sealed[:len(plain)]); err != nil {
			return err
		}
		left -= len(plain)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	r.envelopes <- m
	return nil
}

func rawNonce(n int) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, 12), uint64(n))
}

// carry sends what was taken.
func (r *rawRelay) carry() {
	for m := range r.envelopes {
		if err := r.send(m); err != nil {
			fmt.Fprintln(os.Stderr, "raw relay:", err) // as above
		}
	}
}

func (r *rawRelay) send(m rawMessage) error {
	f, err := os.Open(m.path)
	if err != nil {
		return err
	}
	defer f.Close()
	defer func() { _ = os.Remove(m.path) }() // the directory goes in any case
	return r.handOn(f, func(n int, frame []byte) {
		copy(frame[len(frame)-rawTag:], m.tags[n*rawTag:])
	})
}

// pass hands a body on while it comes in, sealed and opened on its way.
func (r *rawRelay) pass(in io.Reader) error {
	return r.handOn(in, func(n int, frame []byte) {
		body := frame[:len(frame)-rawTag]
		r.aead.Seal(body[:0], rawNonce(n), body, nil) // in place
	})
}

// handOn sends a body that is read from src. Of each frame seal makes what is sealed, in place; it is opened
// before it goes.
func (r *rawRelay) handOn(src io.Reader, seal func(n int, frame []byte)) error {
	c, err := r.begin()
	if err != nil {
		return err
	}
	defer c.quit()
	n := 0
	return r.deliver(c, func(frame []byte) error {
		body := frame[:len(frame)-rawTag]
		if _, err := io.ReadFull(src, body); err != nil {
			return err
		}
		seal(n, frame)
		_, err := r.aead.Open(body[:0], rawNonce(n), frame, nil)
		n++
		return err
	})
}

// begin opens a session and says whose message comes.
func (r *rawRelay) begin() (*sourceConn, error) {
	c, err := dialSource(r.job.Sink, r.out)
	if err != nil {
		return nil, err
	}
	const mail = "MAIL FROM:<a@sealpost.test>\r\nRCPT TO:<b@load.test>\r\n"
	if err := c.ask(mail, "250"); err != nil {
		return nil, err
	}
	return c, c.expect("250")
}

// deliver sends a body; frame fills a buffer with the next frame and room for its tag.
func (r *rawRelay) deliver(c *sourceConn, frame func([]byte) error) error {
	const dot = len(".\r\n")
	out := r.job.Size
	if r.job.Chunking {
		out -= dot
		if _, err := fmt.Fprintf(c.conn, "BDAT %d LAST\r\n", out); err != nil {
			return err
		}
	} else if err := c.ask("DATA\r\n", "354"); err != nil {
		return err
	}
	buf := make([]byte, rawFrame+rawTag)
	for left := r.job.Size; left > 0; {
		size := min(left, rawFrame)
		if err := frame(buf[:size+rawTag]); err != nil {
			return err
		}
		if _, err := c.conn.Write(buf[:min(size, out)]); err != nil {
			return err
		}
		left -= size
		out -= min(size, out)
	}
	return c.expect("250")
}
