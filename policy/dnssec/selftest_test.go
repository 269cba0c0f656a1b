package dnssec_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/policy/policytest"
)

func TestSelftest(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		mode  policytest.Mode
		test  dnssec.Selftest
		spoil func(*policytest.Zones)
		want  string // part of the error; empty: it goes well
		mend  string // the same: what is to be done
	}{
		{"validating, the root by default", policytest.Validating, dnssec.Selftest{}, nil, "", ""},
		{"validating, names of its own", policytest.Validating, dnssec.Selftest{Signed: "signed.example", Bogus: "mx.bogus.example"}, nil, "", ""},
		{"a secure absence will do", policytest.Validating, dnssec.Selftest{Signed: "nothing.signed.example"}, nil, "", ""},
		{"oblivious", policytest.Oblivious, dnssec.Selftest{}, nil, "without the AD bit", "unbound with an auto-trust-anchor-file on 127.0.0.1"},
		{"insecure name", policytest.Validating, dnssec.Selftest{Signed: "insecure.example"}, nil, "without the AD bit", "or the name is not signed"},
		{"bogus name that is good", policytest.Validating, dnssec.Selftest{Bogus: "mx.signed.example"}, nil, "with an answer", "val-permissive-mode: no"},
		{"bogus name that is absent", policytest.Validating, dnssec.Selftest{Bogus: "nothing.signed.example"}, nil, "with an answer", "val-permissive-mode: no"},
		{"bogus name that is silent", policytest.Validating, dnssec.Selftest{Bogus: "mx.bogus.example"}, func(z *policytest.Zones) {
			z.Fail("mx.bogus.example", "", policytest.Timeout)
		}, "in time", "must end in SERVFAIL"},
		{"signed name that fails", policytest.Validating, dnssec.Selftest{}, func(z *policytest.Zones) { z.Fail(".", "", policytest.ServFail) }, "SERVFAIL", "trust anchor and the clock"},
		{"signed name that is bogus", policytest.Validating, dnssec.Selftest{Signed: "bogus.example"}, nil, "DNSSEC Bogus", "trust anchor and the clock"},
		{"a resolver that is silent", policytest.Silent, dnssec.Selftest{}, nil, "cannot be resolved", "see that the resolver runs"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			z := serve(t)
			internet(z)
			z.SetMode(c.mode)
			if c.spoil != nil {
				c.spoil(z)
			}
			r := open(t, dnssec.Options{Servers: []string{z.Addr()}, Selftest: c.test, Timeout: 300 * time.Millisecond})
			if r.Available() {
				t.Error("available before any test")
			}
			err := r.Selftest(t.Context())
			if (err == nil) != (c.want == "") || err != nil && !(strings.Contains(err.Error(), c.want) && strings.Contains(err.Error(), c.mend)) {
				t.Errorf("%v, want %q and %q", err, c.want, c.mend)
			}
			if r.Available() != (err == nil) || r.Believed(t.Context()) != (err == nil) {
				t.Errorf("available %t after %v", r.Available(), err)
			}
		})
	}
}

// Any server of the list may be the next to be asked: one that does not validate takes
// DNSSEC away, one that is silent does not.
func TestSelftestOfEveryServer(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		second policytest.Mode
		want   string // part of the error; empty: it goes well
	}{
		{"both validate", policytest.Validating, ""},
		{"the second does not", policytest.Oblivious, "without the AD bit"},
		{"the second is silent", policytest.Silent, ""},
		{"the second fails", policytest.Failing, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			first, second := serve(t), serve(t)
			second.SetMode(c.second)
			r := open(t, dnssec.Options{Servers: []string{first.Addr(), second.Addr()}, Timeout: 100 * time.Millisecond})
			err := r.Selftest(t.Context())
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if second.Count(".", "SOA") == 0 {
				t.Error("the second was not asked")
			}
		})
	}
}

// What was learned while nobody validated is insecure for that alone: it is not kept on.
func TestCacheOfTheUnvalidatedTime(t *testing.T) {
	t.Parallel()
	z := serve(t)
	internet(z)
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}})
	test := func(good bool) {
		t.Helper()
		if err := r.Selftest(t.Context()); (err == nil) != good {
			t.Fatalf("self-test: %v", err)
		}
	}
	test(true)
	z.SetMode(policytest.Oblivious)
	test(false)
	if got := r.MX(t.Context(), "signed.example"); got.Answer != policy.Records || got.Secure {
		t.Fatalf("%+v", got)
	}
	epoch := r.Epoch()
	z.SetMode(policytest.Validating)
	test(true)
	if got := r.MX(t.Context(), "signed.example"); !got.Secure || r.Epoch() == epoch {
		t.Errorf("RFC 7672 2.1.1: still %+v, epoch %d", got, r.Epoch())
	}
	asked := z.Total()
	if test(true); z.Total() != asked+1 || !r.MX(t.Context(), "signed.example").Secure || z.Total() != asked+1 {
		t.Error("what is good is thrown away too")
	}
}

// An operator hears of each change of state once, whatever the reasons do meanwhile.
func TestSelftestLog(t *testing.T) {
	t.Parallel()
	z := serve(t)
	var text bytes.Buffer
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}, Timeout: time.Second,
		Logger: slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	test := func(good bool, want ...string) {
		t.Helper()
		text.Reset()
		if err := r.Selftest(t.Context()); (err == nil) != good {
			t.Fatalf("self-test: %v", err)
		}
		var got []string
		for line := range strings.Lines(text.String()) {
			if strings.Contains(line, "DNSSEC") {
				level, _, _ := strings.Cut(line[strings.Index(line, "level=")+len("level="):], " ")
				if level == "WARN" && !strings.Contains(line, "use one that does") {
					t.Errorf("it does not say what is to be done: %s", line)
				}
				got = append(got, level)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("logged %q, want %q", got, want)
		}
	}
	z.SetMode(policytest.Oblivious)
	test(false, "WARN") // the first time
	test(false)
	z.Fail(".", "", policytest.ServFail)
	test(false, "DEBUG") // another reason
	test(false)
	z.Heal(".", "")
	z.SetMode(policytest.Validating)
	test(true, "INFO")
	test(true)
	z.SetMode(policytest.Oblivious)
	test(false, "WARN")
	test(false)
}

func TestBelievedTestsOnce(t *testing.T) {
	t.Parallel()
	z := serve(t)
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if !r.Believed(t.Context()) {
				t.Error("not believed")
			}
		})
	}
	wg.Wait()
	if n := z.Count(".", "SOA"); n != 1 {
		t.Errorf("%d self-tests", n)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	z := serve(t)
	r := open(t, dnssec.Options{Servers: []string{z.Addr()}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { r.Watch(ctx); close(ended) }()
	if err := z.Await(t.Context(), ".", "SOA", 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ended
}
