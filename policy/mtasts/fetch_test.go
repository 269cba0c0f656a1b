package mtasts_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/policy/mtasts"
	"github.com/sealpost/sealpost/policy/policytest"
)

const enforced = "version: STSv1\nmode: enforce\nmx: mx.d.example\nmax_age: 86400\n"

// world is DNS, a policy host and a CA.
type world struct {
	zones    *policytest.Zones
	host     *policytest.STSHost
	ca       *policytest.CA
	resolver *dnssec.Resolver
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{zones: policytest.NewZones(), ca: policytest.NewCA()}
	if err := w.zones.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, w.zones) })
	var err error
	if w.host, err = policytest.StartSTS(t.Context(), w.ca); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, w.host) })
	if w.resolver, err = dnssec.New(dnssec.Options{Servers: []string{w.zones.Addr()}, Timeout: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, w.resolver) })
	return w
}

func closed(t testing.TB, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func (w *world) fetcher(t testing.TB, set func(*mtasts.FetchOptions)) *mtasts.Fetcher {
	t.Helper()
	o := mtasts.FetchOptions{
		Resolver: w.resolver, Roots: w.ca.Pool(), AllowPrivate: true, Port: w.host.Addr().Port(), Timeout: 10 * time.Second,
	}
	if set != nil {
		set(&o)
	}
	f, err := mtasts.NewFetcher(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The faults of a policy host, over real TLS.
func TestFetch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		clause string
		fault  policytest.STSFault
		want   policy.Reason // unset: the policy is had
		detail string
	}{
		{"RFC 8461 3.3 good", policytest.STSGood, 0, ""},
		{"3.2 parameters of the media type are ignored", policytest.STSCharset, 0, ""},
		{"3.3 64 KiB", policytest.STSFull, 0, ""},
		{"3.3 a wildcard as the left-most label", policytest.STSWildcard, 0, ""},
		{"3.3 200 only: 404", policytest.STSNotFound, policy.STSFetchFailed, "HTTP status 404"},
		{"3.3 200 only: 503", policytest.STSUnavailable, policy.STSFetchFailed, "HTTP status 503"},
		{"3.3 200 only: 204", policytest.STSNoContent, policy.STSFetchFailed, "HTTP status 204"},
		{"3.3 200 only: 206", policytest.STSPartial, policy.STSFetchFailed, "HTTP status 206"},
		{"3.3 no redirects", policytest.STSRedirect, policy.STSFetchFailed, "HTTP status 302"},
		{"3.3 no redirects, to itself", policytest.STSMoved, policy.STSFetchFailed, "HTTP status 308"},
		{"3.2 text/html", policytest.STSHTML, policy.STSFetchFailed, "media type"},
		{"3.2 no media type", policytest.STSNoType, policy.STSFetchFailed, "media type"},
		{"3.3 more than 64 KiB", policytest.STSTooLarge, policy.STSFetchFailed, "more than 65536"},
		{"own: gzip that was not asked for", policytest.STSBomb, policy.STSFetchFailed, "content coding"},
		{"own: a large header", policytest.STSLargeHeader, policy.STSFetchFailed, "header"},
		{"3.3 a complete policy", policytest.STSTruncated, policy.STSFetchFailed, "broke off"},
		{"reset", policytest.STSReset, policy.STSFetchFailed, "EOF"},
		{"3.3 expired", policytest.STSExpired, policy.STSWebPKI, "expired"},
		{"3.3 not yet valid", policytest.STSNotYetValid, policy.STSWebPKI, "not yet valid"},
		{"3.3 self-signed", policytest.STSSelfSigned, policy.STSWebPKI, ""},
		{"3.3 another name", policytest.STSWrongName, policy.STSWebPKI, "mta-sts.elsewhere.example"},
		{"3.3 the domain itself", policytest.STSParentName, policy.STSWebPKI, ""},
		{"3.3 DNS-ID only, never the CN", policytest.STSCommonName, policy.STSWebPKI, ""},
		{"3.3 a wildcard stands for one label", policytest.STSDeepWildcard, policy.STSWebPKI, ""},
		{"3.3 a wildcard is the whole label", policytest.STSOtherWildcard, policy.STSWebPKI, ""},
		{"7.1 nobody of that name", policytest.STSNoSNIMatch, policy.STSFetchFailed, ""},
		{"TLS 1.1", policytest.STSOldTLS, policy.STSFetchFailed, "version"},
	} {
		t.Run(c.clause, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.zones.A("mta-sts.d.example", "127.0.0.1")
			w.host.SetFault("d.example", enforced, c.fault)
			p, failure := w.fetcher(t, nil).Fetch(t.Context(), "d.example")
			if w.host.Strays("d.example") != 0 || w.host.Count("d.example") > 1 {
				t.Errorf("%d requests, %d for something else", w.host.Count("d.example"), w.host.Strays("d.example"))
			}
			if c.want == policy.ReasonUnset {
				if failure != nil || short(p) != "enforce 86400 mx.d.example" || w.host.Count("d.example") != 1 {
					t.Fatalf("%s, %v", short(p), failure)
				}
				return
			}
			if failure == nil || failure.Reason != c.want || !strings.Contains(failure.Detail, c.detail) {
				t.Errorf("%s, failure %v; want %s: %q", short(p), failure, c.want, c.detail)
			}
			if failure != nil && (len(failure.Detail) > 410 || strings.ContainsAny(failure.Detail, "\r\n")) {
				t.Errorf("detail %q", failure.Detail)
			}
		})
	}
}

// What a slow host can cost is bounded.
func TestFetchTimeout(t *testing.T) {
	t.Parallel()
	for _, fault := range []policytest.STSFault{policytest.STSStall, policytest.STSTrickle} {
		w := newWorld(t)
		w.zones.A("mta-sts.d.example", "127.0.0.1")
		w.host.SetFault("d.example", enforced, fault)
		f := w.fetcher(t, func(o *mtasts.FetchOptions) { o.Timeout = 300 * time.Millisecond })
		if _, failure := f.Fetch(t.Context(), "d.example"); failure == nil || failure.Reason != policy.STSFetchFailed ||
			!strings.Contains(failure.Detail, "not done within 300ms") {
			t.Errorf("fault %d: %v", fault, failure)
		}
	}
}

// RFC 8460 4.3.2.2: a policy that is fetched and cannot be read is invalid, with the line.
func TestFetchInvalid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.zones.A("mta-sts.d.example", "127.0.0.1")
	w.host.Set("d.example", "version: STSv1\nmode: all\n")
	_, failure := w.fetcher(t, nil).Fetch(t.Context(), "d.example")
	if failure == nil || failure.Reason != policy.STSInvalid || !strings.Contains(failure.Detail, "line 2: mode") {
		t.Errorf("%v", failure)
	}
}

// What is sent: nothing that a cache or a compressor would act on, and no port in Host
// (the host answers to its bare name only).
func TestFetchRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.zones.A("mta-sts.d.example", "127.0.0.1")
	w.host.Set("d.example", enforced)
	if _, failure := w.fetcher(t, nil).Fetch(t.Context(), "d.example"); failure != nil {
		t.Fatal(failure)
	}
	h := w.host.Header("d.example")
	if h.Get("Accept-Encoding") != "identity" || h.Get("If-None-Match") != "" || h.Get("Cookie") != "" || h.Get("Authorization") != "" {
		t.Errorf("%v", h)
	}
}

// Where the policy host is.
func TestFetchAddresses(t *testing.T) {
	t.Parallel()
	const host = "mta-sts.d.example"
	for _, c := range []struct {
		clause string
		zones  func(*policytest.Zones)
		set    func(*mtasts.FetchOptions)
		detail string // empty: the policy is had
	}{
		{"RFC 8461 8.2 an alias, the certificate for the name asked for", func(z *policytest.Zones) {
			z.CNAME(host, "web.provider.example")
			z.A("web.provider.example", "127.0.0.1")
		}, nil, ""},
		{"a dead address first", func(z *policytest.Zones) { z.A(host, "127.0.0.9", "127.0.0.1") }, nil, ""},
		{"IPv6 dead, IPv4 good", func(z *policytest.Zones) { z.A(host, "127.0.0.1", "::1") }, nil, ""},
		{"one family unknown", func(z *policytest.Zones) {
			z.A(host, "127.0.0.1")
			z.Fail(host, "AAAA", policytest.ServFail)
		}, nil, ""},
		{"no address", func(z *policytest.Zones) { z.TXT(host, "x") }, nil, "no address"},
		{"no such name", nil, nil, "no address"},
		{"unknown", func(z *policytest.Zones) { z.Fail(host, "", policytest.ServFail) }, nil, "unknown"},
		{"nobody listens", func(z *policytest.Zones) { z.A(host, "127.0.0.9") }, nil, "refused"},
		{"own: loopback", func(z *policytest.Zones) { z.A(host, "127.0.0.1") },
			func(o *mtasts.FetchOptions) { o.AllowPrivate = false }, "not connected to"},
		{"own: loopback behind an alias", func(z *policytest.Zones) {
			z.CNAME(host, "localhost.example")
			z.A("localhost.example", "127.0.0.1", "::1")
		}, func(o *mtasts.FetchOptions) { o.AllowPrivate = false }, "not connected to"},
		{"own: cloud metadata", func(z *policytest.Zones) { z.A(host, "169.254.169.254", "fd00:ec2::254") },
			func(o *mtasts.FetchOptions) { o.AllowPrivate = false }, "not connected to"},
		{"own: IPv4-mapped", func(z *policytest.Zones) { z.A(host, "::ffff:127.0.0.1") }, nil, "not connected to"},
		{"own: translated", func(z *policytest.Zones) { z.A(host, "64:ff9b::7f00:1") },
			func(o *mtasts.FetchOptions) { o.AllowPrivate = false }, "not connected to"},
		{"own: unspecified, in a lab too", func(z *policytest.Zones) { z.A(host, "0.0.0.0", "::") }, nil, "not connected to"},
		{"own: our own address", func(z *policytest.Zones) { z.A(host, "8.8.4.4") }, func(o *mtasts.FetchOptions) {
			o.AllowPrivate, o.Own = false, []netip.Addr{netip.MustParseAddr("8.8.4.4")}
		}, "not connected to"},
	} {
		t.Run(c.clause, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if c.zones != nil {
				c.zones(w.zones)
			}
			w.host.Set("d.example", enforced)
			_, failure := w.fetcher(t, c.set).Fetch(t.Context(), "d.example")
			switch {
			case c.detail == "" && failure != nil:
				t.Error(failure)
			case c.detail != "" && (failure == nil || failure.Reason != policy.STSFetchFailed || !strings.Contains(failure.Detail, c.detail)):
				t.Errorf("%v, want %q", failure, c.detail)
			case c.detail == "not connected to" && w.host.Handshakes("d.example") != 0:
				t.Error("connected all the same")
			}
		})
	}
}

func TestFetcherOptions(t *testing.T) {
	t.Parallel()
	if _, err := mtasts.NewFetcher(mtasts.FetchOptions{}); err == nil {
		t.Error("no resolver, no error")
	}
	w := newWorld(t)
	long := policy.Domain(strings.Repeat("a.", 124) + "d") // a name of 249 octets
	if _, failure := w.fetcher(t, nil).Fetch(t.Context(), long); failure == nil || w.zones.Total() != 0 {
		t.Errorf("%v after %d queries", failure, w.zones.Total())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.zones.A("mta-sts.d.example", "127.0.0.1")
	if _, failure := w.fetcher(t, nil).Fetch(ctx, "d.example"); failure == nil || failure.Reason != policy.STSFetchFailed {
		t.Errorf("%v", failure)
	}
}
