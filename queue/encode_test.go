package queue

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// TestEncode compares the hand-written JSON with encoding/json's, for values in which any field may be set.
// A field that is new in a type and not in encode.go fails here.
func TestEncode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var m Message
		var e Envelope
		var j JournalEntry
		for _, v := range []any{&m, &e, &j} {
			scatter(r, reflect.ValueOf(v).Elem())
		}
		encoded(t, &m, m.appendJSON(nil), nil)
		b, err := e.appendJSON(nil)
		encoded(t, &e, b, err)
		b, err = j.appendJSON(nil)
		encoded(t, &j, b, err)
	}
}

func encoded(t *testing.T, v any, got []byte, err error) {
	t.Helper()
	want, wantErr := json.Marshal(v)
	if err != nil || wantErr != nil {
		t.Fatalf("%v, %v", err, wantErr)
	}
	if string(got) != string(want) {
		t.Fatalf("\n%s, encoding/json writes\n%s", got, want)
	}
}

// scatter sets about half of what can be set.
func scatter(r *rand.Rand, v reflect.Value) {
	if r.IntN(2) == 0 {
		return
	}
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(r.Int64N(1<<33), r.Int64N(2)*r.Int64N(1e9)).UTC()
		return
	case *Address:
		locals := []string{"ann", "a b", "", `q"uote`, "<x>&", "grüße", "o'hara"}
		*x = Address{locals[r.IntN(len(locals))], policy.Domain("mail.example")}
		return
	case *json.RawMessage:
		*x = json.RawMessage(`{"v":2,"trace":[1,"a"]}`)
		return
	case *Notify:
		*x = Notify(r.IntN(8))
		return
	}
	switch v.Kind() {
	case reflect.String:
		texts := []string{"x", "Grüße", "a\u2028b", "tab\there", "<b>&amp;", "\xff", "it\"s \\", "plain words"}
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(r.Int64N(1 << 40))
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
	now := time.Now().UTC()
	m := Message{ID: NewID(now), AcceptedAt: now, Listener: "127.0.0.1:2525", Sender: Address{"reviews", "shop.example"}, Size: 4096}
	e := Envelope{ID: m.ID.EnvelopeID(0), Message: m.ID, Lane: "load.example", Due: now, Recipients: []Recipient{{Address: Address{"ann", "load.example"}}}}
	b.Run("by hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.appendJSON(make([]byte, 0, 384))
			if _, err := e.appendJSON(make([]byte, 0, 256)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, v := range []any{&m, &e} {
				if _, err := json.Marshal(v); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
