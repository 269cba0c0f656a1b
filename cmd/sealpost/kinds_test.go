package main

import (
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay"
	"github.com/sealpost/sealpost/relay/relaytest"
)

// Every kind of receiver, alone in its domain, through the whole relay: the first
// attempt does what the kind's table says, at the level that it says, and no
// envelope is seen in clear where the kind has TLS that works.
func TestEveryKindOfReceiver(t *testing.T) {
	var list []exchanger
	for _, k := range relaytest.Kinds() {
		list = append(list, exchanger{domain: k.Name + ".example", preference: 10, host: "mx." + k.Name + ".example", kind: k})
	}
	w := newWorld(t, list, "")
	for _, k := range relaytest.Kinds() {
		w.submit(t, "reviews@shop.example", "", "ann@"+k.Name+".example")
	}
	for _, k := range relaytest.Kinds() {
		t.Run(k.Name, func(t *testing.T) {
			a := w.await(t, k.Name+".example", 1)
			if len(a.Outcomes) != 1 || a.Outcomes[0].Kind != k.First {
				t.Fatalf("outcomes %+v, want %v (trace %+v, failure %v)", a.Outcomes, k.First, a.Trace, a.Failure)
			}
			if got := reached(a); got != k.Level {
				t.Errorf("level %v, want %v (trace %+v)", got, k.Level, a.Trace)
			}
			h := w.farm.Host("mx." + k.Name + ".example")
			if clear := h.ClearEnvelopes(); k.Level > policy.Plaintext && len(clear) > 0 {
				t.Errorf("an envelope came in clear: %+v", clear)
			}
			if bad := h.Breaches(); len(bad) > 0 {
				t.Errorf("the host saw breaches of the protocol: %q", bad)
			}
		})
	}
}

// reached is the level of the session that decided, delivered or not.
func reached(a *relay.Attempt) policy.Level {
	level := policy.Unset
	for _, s := range a.Trace {
		if s.Level != policy.Unset {
			level = s.Level
		}
	}
	return level
}
