package mtasts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
)

const (
	defaultPort    = 443
	defaultTimeout = time.Minute // RFC 8461 3.3 suggests it
	hostPrefix     = "mta-sts."
	wellKnown      = "/.well-known/mta-sts.txt"
	maxHeader      = 16 << 10
)

// AddressResolver finds the addresses of policy hosts. Implemented by dnssec.Resolver.
type AddressResolver interface {
	A(ctx context.Context, name policy.Domain) dnssec.Reply[netip.Addr]
	AAAA(ctx context.Context, name policy.Domain) dnssec.Reply[netip.Addr]
}

// FetchOptions says how policies are fetched. Resolver is needed.
type FetchOptions struct {
	Resolver AddressResolver
	// Roots verify policy hosts; nil: the system's. Read only.
	Roots *x509.CertPool
	// AllowPrivate lets addresses be connected to that are not for the internet, or ours.
	AllowPrivate bool
	// Own are our addresses: who may name hosts must not reach what listens there.
	Own []netip.Addr
	// Port of the policy hosts; zero: 443. For tests.
	Port uint16
	// Timeout is for a whole fetch; zero: one minute.
	Timeout time.Duration
}

// Fetcher gets policies from their hosts. It is safe for concurrent use and holds
// nothing open.
type Fetcher struct {
	o FetchOptions // defaults filled in; read only
}

// NewFetcher makes a fetcher.
func NewFetcher(o FetchOptions) (*Fetcher, error) {
	if o.Resolver == nil {
		return nil, errors.New("mtasts: a resolver is needed")
	}
	if o.Port == 0 {
		o.Port = defaultPort
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	return &Fetcher{o: o}, nil
}

// Fetch gets the domain's policy, once (RFC 8461 3.3). The failure's reason is
// STSFetchFailed, STSWebPKI or STSInvalid (RFC 8460 4.3.2.2); its detail is for a person.
func (f *Fetcher) Fetch(ctx context.Context, d policy.Domain) (Policy, *policy.Failure) {
	ctx, cancel := context.WithTimeout(ctx, f.o.Timeout)
	defer cancel()
	host, err := policy.ParseDomain(hostPrefix + string(d))
	if err != nil {
		return Policy{}, failed("no policy host can have that name: %v", err)
	}
	body, err := f.get(ctx, host)
	if err != nil {
		if ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("not done within %s: %w", f.o.Timeout, err)
		}
		return Policy{}, &policy.Failure{Reason: reasonOf(err), Detail: oneLine(string(host) + ": " + err.Error())}
	}
	p, err := ParsePolicy(body)
	if err != nil {
		return Policy{}, &policy.Failure{Reason: policy.STSInvalid, Detail: oneLine(string(host) + ": " + err.Error())}
	}
	return p, nil
}

func failed(format string, args ...any) *policy.Failure {
	return &policy.Failure{Reason: policy.STSFetchFailed, Detail: oneLine(fmt.Sprintf(format, args...))}
}

// oneLine makes what may hold a stranger's words fit for a log.
func oneLine(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
	if len(s) > 400 {
		s = strings.ToValidUTF8(s[:400], "") + "..."
	}
	return s
}

// reasonOf tells a certificate that does not hold from every other failure to fetch.
func reasonOf(err error) policy.Reason {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return policy.STSWebPKI
	}
	return policy.STSFetchFailed
}

// get makes the one GET. RFC 8461 3.3: redirects MUST NOT be followed and HTTP caching
// MUST NOT be used: a bare transport does neither, nor does it know cookies.
func (f *Fetcher) get(ctx context.Context, host policy.Domain) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://%s:%d%s", host, f.o.Port, wellKnown), nil)
	if err != nil {
		return nil, err
	}
	req.Host = string(host)
	req.Header = http.Header{
		"Accept":          {"text/plain"},
		"Accept-Encoding": {"identity"}, // what is small on the wire must not be large here
		"User-Agent":      {"Sealpost (MTA-STS, RFC 8461)"},
	}
	t := &http.Transport{ // no proxy: whoever writes the environment must not write policies
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return f.dial(ctx, host)
		},
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
	}
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // all that counts has been read, or there is another error
	if err := acceptable(resp); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxPolicySize+1))
	if err == nil {
		// A server that hears us hang up may end its answer in good order while we still
		// read: half a policy that looks whole.
		err = ctx.Err()
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("the policy broke off after %d octets: %w", len(body), err)
	case len(body) > MaxPolicySize:
		return nil, fmt.Errorf("the policy has more than %d octets (RFC 8461 3.3)", MaxPolicySize)
	}
	return body, nil
}

// acceptable checks the answer's head.
func acceptable(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK { // RFC 8461 3.3: only 200 is valid
		return fmt.Errorf("HTTP status %d: 200 is wanted (RFC 8461 3.3)", resp.StatusCode)
	}
	// RFC 8461 3.2 SHOULD: a place where strangers may put pictures or pages must not
	// serve a policy. Parameters are ignored, those that are broken too.
	text := resp.Header.Get("Content-Type")
	if media, _, _ := strings.Cut(text, ";"); !strings.EqualFold(strings.Trim(media, " \t"), "text/plain") {
		return fmt.Errorf("media type %s: text/plain is wanted (RFC 8461 3.2)", quoted(text))
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return fmt.Errorf("content coding %s, which was not asked for", quoted(coding))
	}
	return nil
}
