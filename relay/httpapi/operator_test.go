package httpapi

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
)

// fakeExplainer records what it was asked.
type fakeExplainer struct {
	mu    sync.Mutex
	asked relay.Inquiry
	err   error
}

func (f *fakeExplainer) Explain(_ context.Context, q relay.Inquiry) (relay.Explanation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = q
	return relay.Explanation{
		Version: relay.ExplanationVersion, At: time.Unix(1e9, 0).UTC(), Asked: relay.Asked{Domain: q.Domain},
		Facts: policy.Facts{Domain: q.Domain, MX: policy.Lookup{Answer: policy.NoName, Secure: true}},
		Plan:  policy.Plan{Domain: q.Domain, Refusal: &policy.Failure{Reason: policy.DomainNotFound}},
	}, f.err
}

// fakeHosts and fakePolicies are memories of given entries.
type fakeHosts struct{ list []RememberedHost }

func (f *fakeHosts) List(_ context.Context, fn func(RememberedHost) error) error {
	for _, h := range f.list {
		if err := fn(h); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeHosts) Forget(_ context.Context, host policy.Domain) (bool, error) {
	before := len(f.list)
	f.list = slices.DeleteFunc(f.list, func(h RememberedHost) bool { return h.Host == host })
	return len(f.list) < before, nil
}

type fakePolicies struct {
	list []RememberedPolicy
	err  error
}

func (f *fakePolicies) List(_ context.Context, fn func(RememberedPolicy) error) error {
	for _, p := range f.list {
		if err := fn(p); err != nil {
			return err
		}
	}
	return f.err
}

func (f *fakePolicies) Forget(_ context.Context, domain policy.Domain) (bool, error) {
	before := len(f.list)
	f.list = slices.DeleteFunc(f.list, func(p RememberedPolicy) bool { return p.Domain == domain })
	return len(f.list) < before, f.err
}

func TestExplainRoundTrip(t *testing.T) {
	t.Parallel()
	f := &fakeExplainer{}
	var out bytes.Buffer
	c := onSocket(t, New(Options{Explainer: f, Logger: slog.New(slog.NewTextHandler(&out, nil))}))
	want := relay.Inquiry{Probe: true, Query: policy.Query{
		Domain: "example.org", Sender: "shop.example", NullSender: true, Credential: "shop one", Stream: "s&t",
		Message: policy.Verified, Account: policy.Legacy, RequireTLS: true,
	}}
	x, err := c.Explain(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if f.asked != want {
		t.Errorf("%+v arrived as %+v", want, f.asked)
	}
	direct, _ := f.Explain(t.Context(), want)
	if !reflect.DeepEqual(x, direct) {
		t.Errorf("%+v arrived as %+v", direct, x)
	}
	contains(t, out.String(), "level=INFO", "domain=example.org", "probe=true")
	if _, err := c.Explain(t.Context(), relay.Inquiry{Query: policy.Query{Domain: "example.net"}}); err != nil || f.asked.Domain != "example.net" || f.asked.Probe {
		t.Errorf("the plain question: %v %+v", err, f.asked)
	}
}

func TestExplainRefusals(t *testing.T) {
	t.Parallel()
	s := New(Options{Explainer: &fakeExplainer{err: errors.New("secret fault")}}).AdminHandler()
	for target, want := range map[string]struct {
		status int
		text   string
	}{
		"/admin/explain":                                       {http.StatusBadRequest, "domain"},
		"/admin/explain?domain=bob@example.org":                {http.StatusBadRequest, "domain"}, // addresses stay with who has them
		"/admin/explain?domain=example.org&min_level=best":     {http.StatusBadRequest, "min_level"},
		"/admin/explain?domain=example.org&probe=perhaps":      {http.StatusBadRequest, "probe"},
		"/admin/explain?domain=example.org&sender=a@b.example": {http.StatusBadRequest, "sender"},
		"/admin/explain?domain=example.org&colour=red":         {http.StatusBadRequest, "colour"},
		"/admin/explain?domain=example.org&domain=example.net": {http.StatusBadRequest, "2 times"},
		"/admin/explain?domain=example.org":                    {http.StatusInternalServerError, "a fault of this relay"},
		"/admin/memory/hosts":                                  {http.StatusNotFound, "not available"},
		"/admin/memory/policies":                               {http.StatusNotFound, "not available"},
	} {
		w := get(s, target)
		if w.Code != want.status || !strings.Contains(w.Body.String(), want.text) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	if w := get(New(Options{}).AdminHandler(), "/admin/explain?domain=example.org"); w.Code != http.StatusNotFound {
		t.Errorf("nobody to explain: %d", w.Code)
	}
	if w := ask(s, http.MethodPost, "/admin/memory/forget?name=example.org"); w.Code != http.StatusNotFound {
		t.Errorf("nothing to forget in: %d", w.Code)
	}
	if w := get(New(Options{Token: "0123456789abcdef", Explainer: &fakeExplainer{}}).Handler(), "/admin/explain?domain=example.org"); w.Code != http.StatusUnauthorized {
		t.Errorf("over TCP without the token: %d", w.Code)
	}
}

func TestMemoryRoundTrip(t *testing.T) {
	t.Parallel()
	seen := time.Unix(1e9, 0).UTC()
	hosts := &fakeHosts{list: []RememberedHost{
		{Host: "mx1.example.org", Family: "ipv4", Memory: policy.Memory{Best: policy.DANE, BestAt: seen, Last: policy.DANE, LastSeen: seen, Good: 7}},
		{Host: "mx1.example.org", Family: "ipv6", Memory: policy.Memory{DownUntil: seen}},
		{Host: "example.net", Family: "ipv4", Memory: policy.Memory{Last: policy.Plaintext}},
	}}
	policies := &fakePolicies{list: []RememberedPolicy{
		{Domain: "example.org", STS: policy.STS{Mode: policy.STSEnforce, ID: "1", MX: []string{"*.example.org"}, Fetched: seen, Expires: seen.Add(time.Hour)}},
		{Domain: "example.net", STS: policy.STS{Mode: policy.STSNone, Fetched: seen}},
	}}
	wantHosts, wantPolicies := slices.Clone(hosts.list), slices.Clone(policies.list)
	var out bytes.Buffer
	c := onSocket(t, New(Options{HostMemory: hosts, PolicyMemory: policies, Logger: slog.New(slog.NewTextHandler(&out, nil))}))
	ctx := t.Context()
	var gotHosts []RememberedHost
	if err := c.RememberedHosts(ctx, func(h RememberedHost) error { gotHosts = append(gotHosts, h); return nil }); err != nil || !reflect.DeepEqual(gotHosts, wantHosts) {
		t.Errorf("%v: hosts\n%+v arrived as\n%+v", err, wantHosts, gotHosts)
	}
	var gotPolicies []RememberedPolicy
	if err := c.RememberedPolicies(ctx, func(p RememberedPolicy) error { gotPolicies = append(gotPolicies, p); return nil }); err != nil || !reflect.DeepEqual(gotPolicies, wantPolicies) {
		t.Errorf("%v: policies\n%+v arrived as\n%+v", err, wantPolicies, gotPolicies)
	}
	for _, tt := range []struct {
		name policy.Domain
		want Forgotten
	}{
		{"mx1.example.org", Forgotten{Name: "mx1.example.org", Host: true}},
		{"example.org", Forgotten{Name: "example.org", Policy: true}},
		{"example.net", Forgotten{Name: "example.net", Host: true, Policy: true}},
		{"example.net", Forgotten{Name: "example.net"}},
	} {
		if f, err := c.Forget(ctx, tt.name); err != nil || f != tt.want {
			t.Errorf("forget %s: %+v %v, want %+v", tt.name, f, err, tt.want)
		}
	}
	if len(hosts.list)+len(policies.list) != 0 {
		t.Errorf("left: %+v %+v", hosts.list, policies.list)
	}
	contains(t, out.String(), "level=INFO", "verb=forget", "name=mx1.example.org")
	if _, err := c.Forget(ctx, "bad..name"); err == nil {
		t.Error("a name that is none was forgotten")
	}
	policies.err = errors.New("disk is secret")
	if _, err := c.Forget(ctx, "example.org"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a fault: %v", err)
	}
}
