package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay/submission"
)

// labFloors is what operator, credential and message ask for, and what they let go (policy: floors,
// operator rules; RFC 8689 is in lab_requiretls_test.go).
func labFloors(t *testing.T) labPart {
	t.Helper()
	hash, err := submission.HashPassword(labPassword)
	if err != nil {
		t.Fatal(err)
	}
	rows := labOwnFloors(t)
	rows = append(rows, labRules()...)
	rows = append(rows, labOverrides()...)
	rows = append(rows, labEqual()...)
	rows = append(rows, labRequireTLS()...)
	rows = append(rows, labTLSRequiredNo()...)
	rows = append(rows, labPeers()...)
	return labPart{name: "floors", rows: rows, more: fmt.Sprintf("[[credential]]\nname = \"careful\"\npassword_hash = %q\nsenders = [\"@shop.example\"]\nfloor = \"verified\"\n", hash)}
}

const labPassword = "the password of the lab"

// labOwnFloors are all floors with all sorts of hosts: what reaches the floor goes at the
// host's own level, and what does not waits.
func labOwnFloors(t *testing.T) (rows []labRow) {
	t.Helper()
	for floor := policy.Legacy; floor <= policy.DANE; floor++ {
		for _, name := range []string{"no-tls", "tls11-only", "tls10-only", "rsa-exchange", "self-signed", "expired", "wrong-name", "modern", "small-hello", "starttls-454", "starttls-drop", "starttls-554"} {
			want := "f"
			if level := kind(t, name).Level; level >= floor {
				want = "d " + level.String()
			}
			rows = append(rows, labRow{name: fmt.Sprintf("policy 2: the operator's floor %s at a host %s", floor, name), hosts: name, want: want,
				rule: fmt.Sprintf("floor = %q", floor)})
		}
	}
	return rows
}

// labRules are rules, ladders and the message's own wishes.
func labRules() []labRow {
	const verified = `floor = "verified"`
	const bounce = verified + ` / on_unmet = "bounce"`
	const atLeast, orBounce = "Sealpost-Min-Level: ", " / Sealpost-On-Unmet: bounce"
	return []labRow{
		{name: "policy 2: floor mta-sts at a domain with a policy", setup: "sts 1 enforce $1", rule: `floor = "mta-sts"`, want: "d mta-sts"},
		{name: "policy 2: floor mta-sts at a domain in testing mode", setup: "sts 1 testing $1", rule: `floor = "mta-sts"`, want: "f sts-missing !mx1"},
		{name: "policy 2: floor mta-sts at a domain with DANE", setup: "tlsa $1 3 1 1", rule: `floor = "mta-sts"`, want: "d dane"},
		{name: "policy 2: floor dane at a domain with a policy only", setup: "sts 1 enforce $1", rule: `floor = "dane"`, want: "f tlsa-unusable !mx1"},
		{name: "policy 2: floor dane at a domain with DANE", setup: "tlsa $1 3 1 1", rule: `floor = "dane"`, want: "d dane basis=rule|dane"},
		{name: "7672 2.2.1: floor dane and an insecure MX", setup: "unsigned $D / tlsa $1 3 1 1", rule: `floor = "dane"`, want: "f dnssec-missing !mx1"},
		{name: "7672 6: floor dane and no usable record", setup: "tlsa $1 1 1 1", rule: `floor = "dane"`, want: "f tlsa-unusable !mx1"},
		{name: "policy 2: floor verified by TLSA behind an insecure MX", hosts: "self-signed", setup: "unsigned $D / tlsa $1 3 1 1", rule: verified, want: "d verified"},
		{name: "policy 2: floor verified at the second host", hosts: "self-signed modern", rule: verified, want: "d verified mx2"},
		{name: "policy 2: floor encrypted at the first host that has it", hosts: "no-tls self-signed modern", rule: `floor = "encrypted"`, want: "d encrypted mx2 !mx3"},
		{name: "policy 3.7: on_unmet = bounce: a bad certificate", hosts: "self-signed", rule: bounce, want: "b certificate-untrusted 5.7.10"},
		{name: "policy 3.7: on_unmet = bounce: no STARTTLS", hosts: "no-tls", rule: bounce, want: "b starttls-missing 5.7.10"},
		{name: "5321 4.5.4.1: on_unmet = bounce: a host that is not there waits", hosts: "greeting-421", rule: bounce, want: "f greeting-temporary"},
		{name: "3207 4: on_unmet = bounce: 454 waits", hosts: "starttls-454", rule: bounce, want: "f starttls-temporary"},
		{name: "5321 4.5.4.1: on_unmet = bounce: a stalled handshake waits", hosts: "starttls-stall", rule: bounce, want: "f handshake-stall"},
		{name: "5321 4.5.4.1: on_unmet = bounce: one host is bad, the other not there", hosts: "self-signed greeting-421", rule: bounce, want: "f"},
		{name: "7672 2.2: on_unmet = bounce: TLSA records that do not match wait", setup: "tlsa $1 3 1 1 wrong", rule: bounce, want: "f tlsa-mismatch"},
		{name: "7672 2.1.2: on_unmet = bounce: TLSA that fails waits", setup: "servfail $T1 TLSA", rule: bounce, want: "f tlsa-unknown"},
		{name: "7672 2.2: on_unmet = bounce: DANE and no STARTTLS waits", hosts: "no-tls", setup: "tlsa $1 3 1 1 wrong", rule: bounce, want: "f starttls-missing"},
		{name: "8461 5: on_unmet = bounce: a host that is not listed waits", setup: "sts 1 enforce mx.other.example", rule: bounce, want: "f sts-mismatch"},
		{name: "8461 5: on_unmet = bounce: a bad certificate under a policy waits", hosts: "self-signed", setup: "sts 1 enforce $1", rule: bounce, want: "f certificate-untrusted"},
		{name: "7672 2.1.2: on_unmet = bounce: MX that fails waits", setup: "servfail $D MX", rule: bounce, want: "f dns-unknown"},
		{name: "policy 3.7: on_unmet = bounce: the second host is good", hosts: "self-signed modern", rule: bounce, want: "d verified mx2"},

		{name: "policy 3.4: clear text later: not at the first try", hosts: "no-tls", rule: `fallback = [ { to = "plaintext", after = "1h" } ]`, want: "f starttls-missing", then: []string{"retry => f starttls-missing"}},
		{name: "policy 3.4: clear text from the second try on", hosts: "no-tls", rule: `fallback = [ { to = "plaintext", min_tries = 1 } ]`, want: "f starttls-missing", then: []string{"retry => d plaintext"}},
		{name: "policy 3.4: on_unmet = bounce while the ladder goes on waits", hosts: "no-tls", rule: `on_unmet = "bounce" / fallback = [ { to = "plaintext", after = "1h" } ]`, want: "f starttls-missing"},
		{name: "policy 3.4: no ladder: no STARTTLS", hosts: "no-tls", rule: "fallback = []", want: "f starttls-missing"},
		{name: "policy 3.4: no ladder: TLS 1.1", hosts: "tls11-only", rule: "fallback = []", want: "f handshake-version"},
		{name: "policy 3.4: no ladder: the classical handshake is no step down", hosts: "small-hello", rule: "fallback = []", want: "d verified"},
		{name: "policy 3.4: old TLS only: TLS 1.0", hosts: "tls10-only", rule: `fallback = [ { to = "legacy", after = "0s" } ]`, want: "d legacy"},
		{name: "policy 3.4: old TLS only: no STARTTLS", hosts: "no-tls", rule: `fallback = [ { to = "legacy", after = "0s" } ]`, want: "f starttls-missing"},
		{name: "policy 3.4: old TLS only: every handshake breaks", hosts: "starttls-reset", rule: `fallback = [ { to = "legacy", after = "0s" } ]`, want: "f handshake-eof"},
		{name: "policy 3.4: what is no TLS failure does not lower: 421", hosts: "greeting-421", want: "f greeting-temporary"},
		{name: "policy 3.4: what is no TLS failure does not lower: a connection that ends at MAIL", hosts: "drop-at-mail", want: "f"},
		{name: "policy 4: min_tls 1.2 and TLS 1.1", hosts: "tls11-only", rule: `floor = "encrypted" / min_tls = "1.2"`, want: "f handshake-version"},
		{name: "policy 4: min_tls 1.3 and TLS 1.2", hosts: "tls12-only", rule: `min_tls = "1.3"`, want: "f"},
		{name: "policy 4: min_tls 1.3 and no TLS", hosts: "no-tls", rule: `min_tls = "1.3"`, want: "f starttls-missing"},
		{name: "policy 4: min_tls 1.3 and TLS 1.3", rule: `min_tls = "1.3"`, want: "d verified"},
		{name: "policy 4: a rule for a host", hosts: "self-signed", rule: "note = \"mx $1\" / " + verified, want: "f certificate-untrusted basis=rule"},
		{name: "policy 4: a rule for hosts below a name", hosts: "self-signed", rule: "note = \"mx .$H\" / " + verified, want: "f certificate-untrusted basis=rule"},
		{name: "policy 4: a rule for one of two hosts", hosts: "no-tls no-tls", rule: "note = \"mx $1\" / " + verified, want: "d plaintext mx2"},
		{name: "policy 4: a rule for a domain below is not for it", hosts: "self-signed", rule: "match = { domain = [\".$D\"] } / " + verified, want: "d encrypted"},
		{name: "policy 4: a rule for a stream", hosts: "self-signed", rule: "match = { domain = [\"$D\"], stream = [\"contracts\"] } / " + verified, send: "Sealpost-Stream: contracts", want: "f certificate-untrusted"},
		{name: "policy 4: a rule for another stream", hosts: "self-signed", rule: "match = { domain = [\"$D\"], stream = [\"contracts\"] } / " + verified, send: "Sealpost-Stream: reviews", want: "d encrypted"},
		{name: "policy 4: a rule for the sender", hosts: "self-signed", rule: "match = { domain = [\"$D\"], sender = [\"shop.example\"] } / " + verified, want: "f certificate-untrusted"},
		{name: "policy 4: a rule for another sender", hosts: "self-signed", rule: "match = { domain = [\"$D\"], sender = [\"bank.example\"] } / " + verified, want: "d encrypted"},
		{name: "policy 2: the credential's floor", hosts: "self-signed", send: "AUTH careful", want: "f certificate-untrusted basis=credential"},
		{name: "policy 2: the credential's floor is reached", send: "AUTH careful", want: "d verified"},
		{name: "policy 2: the message raises the floor: no STARTTLS", hosts: "no-tls", send: atLeast + "encrypted", want: "f starttls-missing basis=message"},
		{name: "policy 2: the message raises the floor: a bad certificate", hosts: "self-signed", send: atLeast + "verified", want: "f certificate-untrusted basis=message"},
		{name: "policy 2: the message raises the floor: reached", send: atLeast + "verified", want: "d verified"},
		{name: "policy 2: the message asks for dane", send: atLeast + "dane", want: "f tlsa-unusable basis=message"},
		{name: "policy 2: the message cannot lower the operator's floor", hosts: "no-tls", rule: `floor = "encrypted"`, send: atLeast + "plaintext", want: "f starttls-missing basis=rule"},
		{name: "policy 2: the message cannot lower the credential's floor", hosts: "self-signed", send: "AUTH careful / " + atLeast + "encrypted", want: "f certificate-untrusted basis=credential"},
		{name: "policy 3.7: the message bounces for its own floor", hosts: "self-signed", send: atLeast + "verified" + orBounce, want: "b certificate-untrusted 5.7.10"},
		{name: "7672 2.2: the message bounces for its own floor, not for the domain's promise", setup: "tlsa $1 3 1 1 wrong", send: atLeast + "verified" + orBounce, want: "f tlsa-mismatch"},
		{name: "8461 5: the message bounces for its own floor, not for a policy", setup: "sts 1 enforce mx.other.example", send: atLeast + "encrypted" + orBounce, want: "f sts-mismatch"},
	}
}

// labOverrides are rules that set a promise aside: a note "ignore dane" stands for what
// the rule's ignore, reason and expires say.
func labOverrides() []labRow {
	const dane, sts = `note = "ignore dane"`, `note = "ignore mta-sts"`
	return []labRow{
		{name: "7672 9.1: an override of DANE: no match", setup: "tlsa $1 3 1 1 wrong", rule: dane, want: "d verified #1"},
		{name: "7672 9.1: an override of DANE: no STARTTLS", hosts: "no-tls", setup: "tlsa $1 3 1 1 wrong", rule: dane, want: "d plaintext #1"},
		{name: "7672 9.1: an override of DANE: TLSA fails", setup: "servfail $T1 TLSA", rule: dane, want: "d verified #1"},
		{name: "7672 9.1: an override of DANE, and the records match", setup: "tlsa $1 3 1 1", rule: dane, want: "d dane"},
		{name: "7672 9.1: an override of DANE leaves the operator's floor", hosts: "self-signed", setup: "tlsa $1 3 1 1 wrong", rule: dane + ` / floor = "verified"`, want: "f basis=rule"},
		{name: "7672 9.1: an override of DANE leaves MTA-STS", hosts: "self-signed", setup: "tlsa $1 3 1 1 wrong / sts 1 enforce $1", rule: dane, want: "f basis=mta-sts"},
		{name: "policy 2: an override that is over", setup: "tlsa $1 3 1 1 wrong", rule: `note = "expired dane"`, want: "f tlsa-mismatch #0"},
		{name: "policy 2: an override without a reason", setup: "tlsa $1 3 1 1 wrong", rule: `note = "unreasoned dane"`, want: "f tlsa-mismatch #0"},
		{name: "policy 2: an override that names no domain", setup: "tlsa $1 3 1 1 wrong", rule: `note = "unnamed dane $1"`, want: "f tlsa-mismatch #0"},
		{name: "8461 5: an override of MTA-STS: not listed", setup: "sts 1 enforce mx.other.example", rule: sts, want: "d verified #1"},
		{name: "8461 5: an override of MTA-STS: a bad certificate", hosts: "self-signed", setup: "sts 1 enforce $1", rule: sts, want: "d encrypted #1"},
		{name: "8461 2: an override of MTA-STS leaves DANE", setup: "sts 1 enforce $1 / tlsa $1 3 1 1 wrong", rule: sts, want: "f tlsa-mismatch"},
		{name: "8461 5: an override of MTA-STS that is over", setup: "sts 1 enforce mx.other.example", rule: `note = "expired mta-sts"`, want: "f sts-mismatch #0"},
	}
}

// labEqual are hosts of equal preference, and of different ones.
func labEqual() []labRow {
	return []labRow{
		{name: "policy 3.2: equal preference: the better one: verified", hosts: "self-signed=modern", want: "d verified mx2"},
		{name: "policy 3.2: equal preference: the better one: TLS", hosts: "no-tls=modern", want: "d verified mx2"},
		{name: "policy 3.2: equal preference: the better one, though unproven", hosts: "no-tls=self-signed", want: "d encrypted mx2"},
		{name: "policy 3.2: equal preference: one of three is proven", hosts: "self-signed=no-tls=modern", want: "d verified mx3"},
		{name: "policy 3.2: equal preference: none has TLS", hosts: "no-tls=no-tls", want: "d plaintext"},
		{name: "policy 3.2: equal preference: one breaks", hosts: "starttls-reset=self-signed", want: "d encrypted mx2"},
		{name: "7672 2.2.1 MUST: a better preference goes first, though less well proven", hosts: "self-signed modern", want: "d encrypted mx1 !mx2"},
		{name: "policy 3.3: wide before down: no TLS, then TLS", hosts: "no-tls modern", want: "d verified mx2"},
		{name: "policy 3.3: wide before down: old TLS, then TLS", hosts: "tls10-only self-signed", want: "d encrypted mx2"},
		{name: "policy 3.3: wide before down: no TLS, then old TLS", hosts: "no-tls tls10-only", want: "d legacy mx2"},
		{name: "policy 3.3: wide before down: old TLS, then none", hosts: "tls10-only no-tls", want: "d legacy mx1"},
		{name: "policy 3.3: wide before down: a broken handshake, then none", hosts: "starttls-drop no-tls", want: "d plaintext mx1|mx2"},
		{name: "3207 4: 454, then TLS", hosts: "starttls-454 modern", want: "d verified mx2"},
	}
}

// labPeers are the defects of other relays, one row each.
func labPeers() []labRow {
	return []labRow{
		{name: "peers: Kumo: a remote policy in testing mode lowers the operator's floor", hosts: "self-signed", setup: "sts 1 testing $1", rule: `floor = "verified"`, want: "f certificate-untrusted basis=rule"},
		{name: "peers: Kumo: clear text goes on in the stream of a broken handshake", hosts: "starttls-garbage", want: "d plaintext"},
		{name: "peers: Exim: any 5xx to STARTTLS is a way to clear text", hosts: "starttls-554", rule: `floor = "encrypted"`, want: "f starttls-refused"},
		{name: "peers: Exim: a setting changes with the first 454", hosts: "starttls-454", setup: "tlsa $1 3 1 1", want: "f starttls-temporary", then: []string{"retry => f starttls-temporary", "retry => f starttls-temporary"}},
		{name: "peers: Stalwart: unusable TLSA records are ignored", hosts: "no-tls", setup: "tlsa $1 0 0 1", want: "f starttls-missing basis=dane"},
		{name: "peers: Stalwart: no STARTTLS under enforce bounces", hosts: "no-tls", setup: "sts 1 enforce $1", want: "f starttls-missing basis=mta-sts", then: []string{"retry => f starttls-missing"}},
		{name: "peers: ZoneMTA: an outage switches MTA-STS off", setup: "sts 1 enforce $1", want: "d mta-sts",
			then: []string{"servfail _mta-sts.$D TXT / policy:reset x / become 1 no-tls => f starttls-missing basis=mta-sts"}},
		{name: "peers: Haraka: a host that broke once stays in clear", hosts: "starttls-drop", want: "d plaintext", then: []string{"become 1 modern => d verified"}},
		{name: "peers: Kumo: one host's broken TLS is its site's", hosts: "starttls-drop modern", want: "d verified mx2", then: []string{"=> d verified mx2"}},
		{name: "peers: tlspol: testing mode leaves no trace", hosts: "self-signed", setup: "sts 1 testing $1", want: "d encrypted sts=testing"},
		{name: "peers: Postal: after a session in clear the next one begins anywhere", hosts: "no-tls", want: "d plaintext", then: []string{"become 1 modern / cert 1 => d verified", "become 1 no-tls => d plaintext"}},
	}
}

// labNote completes rules by their note: "mx NAME" for hosts in place of a domain; "ignore",
// "expired", "unreasoned" and "unnamed" (without a domain, but for a host) and a promise.
func labNote(r *policy.Rule) {
	f := strings.Fields(r.Note)
	switch {
	case len(f) < 2:
		return
	case f[0] == "mx":
		r.Match = policy.Match{MX: f[1:]}
		return
	case r.Ignore.UnmarshalText([]byte(f[1])) != nil:
		return
	}
	r.Reason, r.Expires = "ticket 4711", labFuture
	switch f[0] {
	case "expired":
		r.Expires = labPast
	case "unreasoned":
		r.Reason = ""
	case "unnamed":
		r.Match = policy.Match{MX: f[2:]}
	}
}
