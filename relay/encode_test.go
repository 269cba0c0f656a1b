package relay

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// TestEncode compares the hand-written JSON with encoding/json's, for attempts in which any field may be set.
// A field that is new in a type and not in encode.go fails here.
func TestEncode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var a Attempt
		scatter(r, reflect.ValueOf(&a).Elem())
		want, err := json.Marshal(&a)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.appendJSON(nil); err != nil || string(got) != string(want) {
			t.Fatalf("%v\n%s, encoding/json writes\n%s", err, got, want)
		}
	}
}

// scatter sets about two thirds of what can be set.
func scatter(r *rand.Rand, v reflect.Value) {
	if r.IntN(3) == 0 {
		return
	}
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(r.Int64N(1<<33), r.Int64N(2)*r.Int64N(1e9)).In(time.FixedZone("", int(r.Int64N(3)-1)*5400))
		return
	case *netip.AddrPort:
		addrs := []string{"192.0.2.1:25", "[2001:db8::1]:25", "[fe80::1%<eth>]:25", "[::ffff:192.0.2.1]:2525"}
		*x = netip.MustParseAddrPort(addrs[r.IntN(len(addrs))])
		return
	}
	switch v.Kind() {
	case reflect.String:
		texts := []string{"x", "Grüße", "a\u2028b", "tab\there", "<b>&amp;", "\xff", "it\"s \\", "plain words"}
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(r.Int64N(1<<40) - 1<<20)
	case reflect.Uint8, reflect.Uint16:
		v.SetUint(uint64(r.IntN(4)))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		scatter(r, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(4), 4))
		for i := range v.Len() {
			scatter(r, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			scatter(r, v.Field(i))
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	now := time.Now()
	a := Attempt{
		Version: AttemptVersion, At: now, Message: "01JABCDEFGHJKMNPQRSTVWXYZ0", Envelope: "01JABCDEFGHJKMNPQRSTVWXYZ0.0", Domain: "load.example", Tries: 1,
		Wanted: policy.Floor{Level: policy.Encrypted}, Rule: "default", Host: "mx.load.example", Achieved: policy.Verified, Reused: true,
		Evidence: policy.Evidence{Rung: policy.Modern, Version: 0x304, Suite: 0x1301, Group: 29, NotAfter: "2027-01-01T00:00:00Z",
			Certificate: "aa0011223344556677889900aa0011223344556677889900aa00112233445566", SPKI: "bb0011223344556677889900aa0011223344556677889900aa00112233445566"},
		Trace:    policy.Trace{{Host: "mx.load.example", Addr: netip.MustParseAddrPort("192.0.2.1:25"), Rung: policy.Modern, Level: policy.Verified, Millis: 3}},
		Outcomes: []AttemptOutcome{{Level: policy.Verified, Code: 250, Status: "2.0.0"}},
	}
	b.Run("by hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.appendJSON(make([]byte, 0, attemptSize)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(&a); err != nil {
				b.Fatal(err)
			}
		}
	})
}
