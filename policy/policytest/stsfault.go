package policytest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// STSFault is a way in which a policy host fails.
type STSFault uint8

// The faults.
const (
	STSGood          STSFault = iota
	STSNotFound               // 404, with the policy as the body
	STSUnavailable            // 503
	STSNoContent              // 204
	STSPartial                // 206, with the policy as the body
	STSRedirect               // 302 to another path of this host, where the policy is (RFC 8461 3.3: not to be followed)
	STSMoved                  // 308 to the very same URL
	STSHTML                   // text/html (RFC 8461 3.2)
	STSNoType                 // no media type
	STSCharset                // text/plain with charset and other parameters: good
	STSTooLarge               // valid, and more than 64 KiB
	STSFull                   // valid, and 64 KiB to the octet: good
	STSBomb                   // gzip that was not asked for, small on the wire
	STSTruncated              // fewer octets than announced
	STSReset                  // the connection is closed instead of an answer
	STSStall                  // no answer
	STSTrickle                // an octet now and then, without end
	STSLargeHeader            // 64 KiB of header
	STSExpired                // certificate
	STSNotYetValid            // certificate
	STSSelfSigned             // certificate
	STSWrongName              // certificate for another name
	STSParentName             // certificate for the domain itself
	STSCommonName             // certificate with the name as CN only
	STSDeepWildcard           // certificate for *.DOMAIN's parent: two labels short
	STSWildcard               // certificate for *.DOMAIN: good
	STSOtherWildcard          // certificate for mta-*.DOMAIN: a wildcard that is not the whole label
	STSNoSNIMatch             // the handshake is aborted (RFC 8461 7.1)
	STSOldTLS                 // TLS 1.1 at most
)

// leaf makes the certificate that a fault shows.
func (f STSFault) leaf(ca *CA, host string) tls.Certificate {
	domain := strings.TrimPrefix(host, stsPrefix)
	o := LeafOptions{Names: []string{host}}
	switch f {
	case STSExpired:
		o.NotBefore, o.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
	case STSNotYetValid:
		o.NotBefore = time.Now().Add(time.Hour)
	case STSSelfSigned:
		o.SelfSigned = true
	case STSWrongName:
		o.Names = []string{"mta-sts.elsewhere.example"}
	case STSParentName:
		o.Names = []string{domain}
	case STSCommonName:
		o.Names, o.CommonName = nil, host
	case STSDeepWildcard:
		_, parent, _ := strings.Cut(domain, ".")
		o.Names = []string{"*." + parent}
	case STSWildcard:
		o.Names = []string{"*." + domain}
	case STSOtherWildcard:
		o.Names = []string{"mta-*." + domain}
	}
	return ca.Leaf(o)
}

// answer answers a request for the policy. Errors of writing are the client's to see.
func (f STSFault) answer(ctx context.Context, w http.ResponseWriter, r *http.Request, body string) {
	w.Header().Set("Content-Type", "text/plain")
	status := http.StatusOK
	if body == "" {
		status = http.StatusNotFound
	}
	switch f {
	case STSNotFound:
		status = http.StatusNotFound
	case STSUnavailable:
		status = http.StatusServiceUnavailable
	case STSNoContent:
		w.WriteHeader(http.StatusNoContent)
		return
	case STSPartial:
		status = http.StatusPartialContent
	case STSRedirect:
		w.Header().Set("Location", "/elsewhere.txt")
		status = http.StatusFound
	case STSMoved:
		w.Header().Set("Location", STSPath)
		status = http.StatusPermanentRedirect
	case STSHTML:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
	case STSNoType:
		w.Header()["Content-Type"] = nil
	case STSCharset:
		w.Header().Set("Content-Type", `Text/Plain; charset=us-ascii; format="flowed"`)
	case STSTooLarge:
		body = padded(body, 64<<10+1)
	case STSFull:
		body = padded(body, 64<<10)
	case STSBomb:
		w.Header().Set("Content-Encoding", "gzip")
		body = zipped(padded(body, 4<<20))
	case STSLargeHeader:
		w.Header().Set("X-Large", strings.Repeat("x", 64<<10))
	case STSTruncated:
		w.Header().Set("Content-Length", fmt.Sprint(len(body)+1))
	case STSReset:
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = c.Close() // all that is wanted
		}
		return
	case STSStall:
		wait(ctx, r, 0)
		return
	case STSTrickle:
		trickle(ctx, w, r, body)
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// padded fills a policy up with an unknown key.
func padded(body string, size int) string {
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(body, "\n") + "\n")
	for b.Len() < size {
		n := min(size-b.Len(), 1000)
		if left := size - b.Len() - n; left > 0 && left < 10 {
			n -= 10 // so that a whole line is left
		}
		b.WriteString("pad: " + strings.Repeat("x", n-len("pad: \n")) + "\n")
	}
	return b.String()
}

func zipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(s))
	must(err)
	must(z.Close())
	return b.String()
}

// wait ends with the client, the server, or after d when that is not 0.
func wait(ctx context.Context, r *http.Request, d time.Duration) bool {
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
		return true
	case <-ctx.Done():
	case <-r.Context().Done():
	}
	return false
}

// trickle sends a policy that never ends.
func trickle(ctx context.Context, w http.ResponseWriter, r *http.Request, body string) {
	for i := 0; ; i++ {
		c := "x"
		if i < len(body) {
			c = body[i : i+1]
		}
		if _, err := w.Write([]byte(c)); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		if !wait(ctx, r, 5*time.Millisecond) {
			return
		}
	}
}
