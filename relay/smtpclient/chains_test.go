package smtpclient

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy/policytest"
)

func TestChains(t *testing.T) {
	t.Parallel()
	ca := policytest.NewCA()
	chain := func(o policytest.LeafOptions) (list []*x509.Certificate) {
		o.Names = []string{"mx.example.test"}
		for _, der := range ca.Leaf(o).Certificate {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, c)
		}
		return list
	}
	first, second := chain(policytest.LeafOptions{WithRoot: true}), chain(policytest.LeafOptions{})
	now := time.Now()
	from, until := now.Add(-time.Minute), now.Add(30*time.Minute)
	known := newChains()
	known.Led(first, now, from, until)
	long := newChains()
	long.Led(first, now, now.Add(-time.Hour), now.Add(24*time.Hour))
	for _, tt := range []struct {
		name  string
		c     *chains
		chain []*x509.Certificate
		at    time.Time
		want  bool
	}{
		{"the same, at once", known, first, now, true},
		{"the same, at the end of its validity", known, first, until, true},
		{"after its validity", known, first, until.Add(time.Second), false},
		{"before it was looked at: the clock was set back", known, first, now.Add(-time.Second), false},
		{"another leaf of the same issuer", known, second, now, false},
		{"without its last certificate", known, first[:1], now, false},
		{"another order", known, []*x509.Certificate{first[1], first[0]}, now, false},
		{"nothing", known, nil, now, false},
		{"within an hour", long, first, now.Add(chainAge - time.Second), true},
		{"an hour later", long, first, now.Add(chainAge), false},
	} {
		if got := tt.c.Leads(tt.chain, tt.at); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestChainsAreBounded(t *testing.T) {
	t.Parallel()
	known, now := newChains(), time.Now()
	for i := range maxChains + 10 {
		chain := []*x509.Certificate{{Raw: []byte{byte(i), byte(i >> 8)}}}
		if known.Led(chain, now, now, now); !known.Leads(chain, now) {
			t.Fatalf("chain %d is not known", i)
		}
	}
	if n := len(known.known); n != maxChains {
		t.Errorf("%d chains are kept, want %d", n, maxChains)
	}
}
