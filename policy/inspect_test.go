package policy

import (
	"crypto/x509"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// recall is Chains that never forgets.
type recall struct {
	spans map[string][2]time.Time
	used  int
}

func chainKey(chain []*x509.Certificate) (k string) {
	for _, c := range chain {
		k += string(c.Raw) + "/"
	}
	return k
}

func (r *recall) Leads(chain []*x509.Certificate, now time.Time) bool {
	s, ok := r.spans[chainKey(chain)]
	ok = ok && !now.Before(s[0]) && !now.After(s[1])
	if ok {
		r.used++
	}
	return ok
}

func (r *recall) Led(chain []*x509.Certificate, _, from, until time.Time) {
	r.spans[chainKey(chain)] = [2]time.Time{from, until}
}

// What is remembered of chains changes no verdict: whatever was asked before, the evidence is
// that of an Inspector without a memory, to the word.
func TestInspectRemembers(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	lasts := func(d time.Duration) change { return func(c *x509.Certificate) { c.NotAfter = f.now.Add(d) } }
	begins := func(d time.Duration) change { return func(c *x509.Certificate) { c.NotBefore = f.now.Add(d) } }
	root, short := f.root("root"), f.root("short", lasts(20*time.Minute))
	inter, late := f.ca(root, "inter"), f.ca(root, "late", begins(10*time.Minute), lasts(30*time.Minute))
	other := f.cross(short, inter)
	bound := f.ca(root, "bound", permits("example.org"))
	chains := [][]*x509.Certificate{
		sent(f.leaf(inter), inter),
		sent(f.leaf(inter, dns("*.example.org", "mx.example.net")), inter),
		sent(f.leaf(inter, lasts(15*time.Minute)), inter),
		sent(f.leaf(late), late),
		sent(f.leaf(short), short),
		sent(f.leaf(inter), other),        // one way, over the root that runs out
		sent(f.leaf(inter), other, inter), // two ways
		sent(f.leaf(bound), bound),
		sent(f.leaf(bound, dns("mx.example.org", "mx.example.net")), bound), // not authorised for all of its names
		sent(f.leaf(inter)),                                                 // without its issuer
		sent(f.leaf(nil)),                                                   // self-signed
		sent(f.leaf(inter, usages(x509.ExtKeyUsageClientAuth)), inter),
	}
	roots := poolOf(sent(root, short))
	memory := &recall{spans: map[string][2]time.Time{}}
	with := Inspector{Roots: roots, Chains: memory}
	rng := rand.New(rand.NewPCG(1, 2))
	proven := 0
	for range 4000 {
		s := Step{Target: &Target{Host: []Domain{"mx.example.org", "mx.example.net", "mx2.example.org"}[rng.IntN(3)]}, Rung: Modern}
		cs := finished(chains[rng.IntN(len(chains))])
		now := f.now.Add(time.Duration(rng.IntN(200)-70) * time.Minute)
		got, want := with.Inspect(cs, s, now), Inspect(cs, s, roots, now)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s at %v, host %s:\n got %+v\nwant %+v", cs.PeerCertificates[0].Subject, now.Sub(f.now), s.Target.Host, got.WebPKI, want.WebPKI)
		}
		if got.Peer == PeerWebPKI {
			proven++
		}
	}
	if memory.used < proven/2 || proven < 400 {
		t.Errorf("%d proven, %d of all remembered", proven, memory.used)
	}
}
