package dnssec_test

import (
	"context"
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/dnssec"
	"github.com/sealpost/sealpost/policy/policytest"
)

// cached returns a resolver that knows signed.example already, with nobody behind it.
func cached(t testing.TB) *dnssec.Resolver {
	t.Helper()
	z := policytest.NewZones()
	if err := z.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	internet(z)
	r, err := dnssec.New(dnssec.Options{Servers: []string{z.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // nothing is in flight
	ctx := context.Background()
	r.MX(ctx, "signed.example")
	r.TLSA(ctx, "mx.signed.example", 25)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if r.MX(ctx, "signed.example").Answer != policy.Records || r.TLSA(ctx, "mx.signed.example", 25).Answer != policy.Records {
		t.Fatal("not cached")
	}
	return r
}

func BenchmarkCachedMX(b *testing.B) {
	r := cached(b)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		r.MX(ctx, "signed.example")
	}
}

func BenchmarkCachedMXParallel(b *testing.B) {
	r := cached(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.MX(context.Background(), "signed.example")
		}
	})
}

func BenchmarkCachedTLSA(b *testing.B) {
	r := cached(b)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		r.TLSA(ctx, "mx.signed.example", 25)
	}
}

// What is in the cache costs its name, and no more.
func TestCachedAllocations(t *testing.T) {
	r := cached(t)
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() { r.MX(ctx, "signed.example") }); n > 2 {
		t.Errorf("%v allocations for an MX lookup", n)
	}
	if n := testing.AllocsPerRun(1000, func() { r.TLSA(ctx, "mx.signed.example", 25) }); n > 4 {
		t.Errorf("%v allocations for a TLSA lookup", n)
	}
}
