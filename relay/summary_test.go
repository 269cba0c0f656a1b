package relay

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

var update = flag.Bool("update", false, "write the golden files anew")

func outcomes(kinds ...queue.OutcomeKind) (list []AttemptOutcome) {
	for i, k := range kinds {
		list = append(list, AttemptOutcome{Recipient: i, Kind: k})
	}
	return list
}

func failed(r policy.Reason) *policy.Failure {
	return &policy.Failure{Reason: r, Host: "mx1.example.org", Detail: "the remote said: bob@example.org is secret"}
}

// The sentences of every sort of attempt, for the golden file: a person judges them by reading.
func TestSummary(t *testing.T) {
	t.Parallel()
	mx := func(n string, r policy.Rung, l policy.Level, why policy.Reason) policy.Tried {
		return policy.Tried{Host: policy.Domain(n + ".example.org"), Rung: r, Level: l, Reason: why, Detail: "bob@example.org"}
	}
	cases := []struct {
		name string
		a    Attempt
	}{
		{"delivered with DANE", Attempt{Wanted: policy.Floor{Level: policy.DANE, Needs: policy.NeedTLSA}, Basis: policy.BasisDANE, Rule: "default",
			Trace: policy.Trace{mx("mx1", policy.Modern, policy.DANE, 0)}, Outcomes: outcomes(queue.DeliveredNow)}},
		{"in clear where nobody has TLS", Attempt{Wanted: policy.Floor{Level: policy.Plaintext}, Basis: policy.BasisDefault, Rule: "default",
			Trace:    policy.Trace{mx("mx1", policy.Modern, 0, policy.STARTTLSMissing), mx("mx2", policy.Modern, 0, policy.ConnectTimeout), mx("mx1", policy.Clear, policy.Plaintext, 0)},
			Outcomes: outcomes(queue.DeliveredNow, queue.DeliveredNow)}},
		{"TLSA mismatch (RFC 7672 2.2)", Attempt{Wanted: policy.Floor{Level: policy.Plaintext}, Basis: policy.BasisDefault, Rule: "default", Failure: failed(policy.TLSAMismatch),
			Trace: policy.Trace{mx("mx1", policy.Modern, policy.Verified, policy.TLSAMismatch)}, Outcomes: outcomes(queue.DeferredNow)}},
		{"TLSA lookup failed (RFC 7672 2.1.2)", Attempt{Wanted: policy.Floor{Level: policy.Plaintext}, Basis: policy.BasisDefault, Rule: "default", Failure: failed(policy.TLSAUnknown),
			Trace: policy.Trace{mx("mx1", 0, 0, policy.TLSAUnknown)}, Outcomes: outcomes(queue.DeferredNow)}},
		{"host not in the MTA-STS policy (RFC 8461 4.1)", Attempt{Wanted: policy.Floor{Level: policy.Plaintext}, Basis: policy.BasisDefault, Rule: "default", Failure: failed(policy.STSMismatch),
			Outcomes: outcomes(queue.DeferredNow)}},
		{"a rule's floor", Attempt{Wanted: policy.Floor{Level: policy.Verified}, Basis: policy.BasisRule, Rule: "rule 2 (banks)", Failure: failed(policy.CertificateExpired),
			Trace:    policy.Trace{mx("mx1", policy.Modern, policy.Encrypted, policy.CertificateExpired), mx("mx2", policy.Modern, 0, policy.STARTTLSMissing)},
			Outcomes: outcomes(queue.DeferredNow)}},
		{"REQUIRETLS (RFC 8689 4.2.1)", Attempt{Wanted: policy.Floor{Level: policy.Verified, Needs: policy.NeedRoute | policy.NeedRequireTLS}, Basis: policy.BasisMessage, Rule: "default",
			Failure: failed(policy.RequireTLSMissing), Trace: policy.Trace{mx("mx1", policy.Modern, policy.Verified, policy.RequireTLSMissing)}, Outcomes: outcomes(queue.BouncedNow)}},
		{"null MX", Attempt{Wanted: policy.Floor{Level: policy.Plaintext}, Basis: policy.BasisDefault, Rule: "default", Failure: failed(policy.NullMX), Outcomes: outcomes(queue.BouncedNow)}},
		{"held", Attempt{Wanted: policy.Floor{Level: policy.Encrypted}, Basis: policy.BasisHold, Rule: "default", Failure: failed(policy.STARTTLSMissing),
			Trace: policy.Trace{mx("mx1", policy.Modern, 0, policy.STARTTLSMissing)}, Outcomes: outcomes(queue.DeferredNow)}},
		{"some of each", Attempt{Wanted: policy.Floor{Level: policy.Encrypted}, Basis: policy.BasisCredential, Rule: "default", Failure: failed(policy.ReplyTemporary),
			Trace: policy.Trace{mx("mx1", policy.Modern, policy.Encrypted, policy.ReplyTemporary)}, Outcomes: outcomes(queue.DeliveredNow, queue.DeferredNow, queue.BouncedNow)}},
		{"many hosts", Attempt{Wanted: policy.Floor{Level: policy.MTASTS}, Basis: policy.BasisMTASTS, Rule: "default", Failure: failed(policy.ConnectRefused),
			Trace: policy.Trace{mx("mx1", policy.Modern, 0, policy.HandshakeStall), mx("mx1", policy.Classical, 0, policy.HandshakeStall), mx("mx2", policy.Modern, 0, policy.ConnectRefused),
				mx("mx3", policy.Modern, 0, policy.ConnectRefused), mx("mx4", policy.Modern, 0, policy.ConnectRefused), mx("mx5", policy.Modern, 0, policy.ConnectRefused), mx("mx6", policy.Modern, 0, policy.ConnectRefused)},
			Outcomes: outcomes(queue.DeferredNow)}},
		{"a session that was kept", Attempt{Wanted: policy.Floor{Level: policy.Plaintext}, Basis: policy.BasisDefault, Rule: "default",
			Trace: policy.Trace{{Host: "mx1.example.org", Rung: policy.Modern, Level: policy.Encrypted, Kept: true}, mx("mx2", policy.Modern, policy.Verified, 0)}, Outcomes: outcomes(queue.DeliveredNow)}},
		{"refused by the host, not for want of protection", Attempt{Wanted: policy.Floor{Level: policy.Plaintext}, Basis: policy.BasisDefault, Rule: "default", Failure: failed(policy.ReplyPermanent),
			Trace: policy.Trace{mx("mx1", policy.Modern, policy.Encrypted, 0)}, Outcomes: outcomes(queue.BouncedNow, queue.BouncedNow)}},
		{"lost before it said whether it took the mail (RFC 5321 4.5.3.2.6)", Attempt{Wanted: policy.Floor{Level: policy.Plaintext}, Basis: policy.BasisDefault, Rule: "default", Failure: failed(policy.Uncertain),
			Trace: policy.Trace{mx("mx1", policy.Modern, policy.Verified, 0)}, Outcomes: outcomes(queue.DeferredNow)}},
		{"the zero attempt", Attempt{}},
	}
	var got strings.Builder
	for _, c := range cases {
		s := c.a.Summary()
		if strings.Contains(s, "@") || strings.Contains(s, "secret") {
			t.Errorf("%s: an address or foreign words: %s", c.name, s)
		}
		if !strings.HasPrefix(s, c.a.Finding()) {
			t.Errorf("%s: the summary does not begin with the finding", c.name)
		}
		got.WriteString("# " + c.name + "\n" + s + "\n\n")
	}
	golden(t, "summary.golden", got.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update if it should):\n%s", path, got)
	}
}
