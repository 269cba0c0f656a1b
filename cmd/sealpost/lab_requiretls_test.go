package main

import "time"

var (
	labPast   = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	labFuture = time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC)
)

// labRequireTLS is REQUIRETLS (RFC 8689 2, 4.2.1).
func labRequireTLS() []labRow {
	row := func(name, hosts, setup, want string, then ...string) labRow {
		return labRow{name: "8689 " + name, hosts: hosts, setup: setup, send: "REQUIRETLS", want: want, then: then}
	}
	const ready = "requiretls"
	const inClear = "act 1 CLEAR-EHLO 250-mx|250-STARTTLS|250 REQUIRETLS"
	return []labRow{
		row("4.2.1: secure MX, a good certificate, the keyword", ready, "", "d verified param=REQUIRETLS"),
		row("4.2.1: DANE and the keyword", ready, "tlsa $1 3 1 1", "d dane param=REQUIRETLS"),
		row("2: DANE-EE proves a self-signed host", ready, "cert 1 selfsigned / tlsa $1 3 1 1", "d dane param=REQUIRETLS"),
		row("4.2.1: the keyword is missing", "modern", "", "b requiretls-missing 5.7.30"),
		row("4.2.1: the keyword is missing under DANE", "modern", "tlsa $1 3 1 1", "b requiretls-missing 5.7.30"),
		row("2: the keyword stands in the clear EHLO only", "modern", inClear, "b requiretls-missing 5.7.30"),
		row("4.2.1: the keyword, and no STARTTLS", "no-tls", "act 1 EHLO 250-mx|250 REQUIRETLS", "b starttls-missing 5.7.10"),
		row("4.2.1: STARTTLS is refused", "starttls-554", "", "b starttls-refused 5.7.10"),
		row("4.2.1: TLS 1.0 only", "tls10-only", "", "b handshake-version 5.7.10"),
		row("4.2.1: a self-signed certificate", ready, "cert 1 selfsigned", "b certificate-untrusted 5.7.10"),
		row("4.2.1: an expired certificate", ready, "cert 1 expired", "b certificate-expired 5.7.10"),
		row("4.2.1: a certificate for another name", ready, "cert 1 names=www.other.example", "b certificate-mismatch 5.7.10"),
		row("4.2.1: unusable TLSA proves nothing", ready, "cert 1 selfsigned / tlsa $1 1 1 1", "b certificate-untrusted 5.7.10"),
		row("4.2.1: TLSA does not match", ready, "tlsa $1 3 1 1 wrong", "b tlsa-mismatch 5.7.10"),
		row("4.2.1: nobody vouches for the route", ready, "unsigned $D", "b route-unproven 5.7.10"),
		row("4.2.1: insecure MX, TLSA matches: the route is not proven", ready, "unsigned $D / tlsa $1 3 1 1", "b route-unproven 5.7.10"),
		row("4.2.1: the route by a policy in enforce mode", ready, "unsigned $D / sts 1 enforce $1", "d mta-sts param=REQUIRETLS"),
		row("4.2.1: the route by a policy in testing mode (8461 4.1 knows no mode)", ready, "unsigned $D / sts 1 testing $1", "d verified param=REQUIRETLS"),
		row("4.2.1: a policy in mode none proves no route", ready, "unsigned $D / sts 1 none", "b route-unproven 5.7.10"),
		row("4.2.1: a policy in testing mode that does not list the host", ready, "unsigned $D / sts 1 testing mx.other.example", "b route-unproven 5.7.10"),
		row("4.2.1: no MX, and the domain is the host", ready, "rm $D MX / $D A $IP1 / cert 1 names=$D", "d verified param=REQUIRETLS"),
		row("4.2.1: the policy cannot be fetched, and the route hangs on it", ready, "unsigned $D / sts 1 enforce:503 $1", "f sts-fetch-failed"),
		row("4.2.1: the record fails, and the route hangs on it", ready, "unsigned $D / servfail _mta-sts.$D TXT", "f dns-unknown"),
		row("4.2.1: MX fails", ready, "servfail $D MX", "f dns-unknown 4.4.3"),
		row("4.2.1: TLSA fails", ready, "servfail $T1 TLSA", "f tlsa-unknown"),
		row("4.2.1: 454", "starttls-454", "", "f starttls-temporary"),
		row("4.2.1: the handshake stalls", "starttls-stall", "", "f handshake-stall"),
		row("4.2.1: the handshake is cut", "starttls-drop", "", "f handshake-eof"),
		row("4.2.1: the host is not there", "greeting-421", "", "f greeting-temporary"),
		row("4.2.1: the first lacks the keyword, the second is good", "modern requiretls", "", "d verified mx2 param=REQUIRETLS"),
		row("4.2.1: the first has no TLS, the second is good", "no-tls requiretls", "", "d verified mx2 param=REQUIRETLS"),
		row("4.2.1: a bad certificate, then no keyword: 5.7.30", "self-signed modern", "", "b requiretls-missing 5.7.30"),
		row("4.2.1: no keyword, then a bad certificate: 5.7.30", "modern self-signed", "", "b requiretls-missing 5.7.30"),
		row("4.2.1: no keyword, then a host that is not there: not yet", "modern greeting-421", "", "f greeting-temporary"),
		row("4.2.1: no host has TLS", "no-tls no-tls", "", "b starttls-missing 5.7.10"),
		row("4.2.1: a null MX", ready, "rm $D MX / $D MX 0 .", "b null-mx 5.1.10"),
		row("4.2.1: the host knows no recipient", ready, "act 1 RCPT 550 5.1.1 no such user", "b reply-permanent 5.1.1"),
		{name: "8689 4.1: REQUIRETLS makes TLS-Required void", hosts: "no-tls", send: "REQUIRETLS / TLS-Required: No", want: "b starttls-missing 5.7.10"},
		{name: "8689 4.2.1: the operator's lower rule does not help", hosts: "no-tls", rule: `floor = "plaintext"`, send: "REQUIRETLS", want: "b starttls-missing 5.7.10"},
		{name: "8689 4.2.1: an override does not help", hosts: "no-tls", setup: "tlsa $1 3 1 1 wrong", rule: `note = "ignore dane"`, send: "REQUIRETLS", want: "b starttls-missing 5.7.10"},
		{name: "8689 2: a message without REQUIRETLS is sent without the parameter", hosts: ready, want: "d verified param="},
		{name: "8689 5: an empty reverse path: the lack of the keyword discards nothing", send: "<> / REQUIRETLS", want: "d verified param="},
		{name: "8689 5: an empty reverse path: the parameter is passed on", hosts: ready, send: "<> / REQUIRETLS", want: "d verified param=REQUIRETLS"},
		{name: "8689 5: an empty reverse path: not in clear", hosts: "no-tls", send: "<> / REQUIRETLS", want: "f starttls-missing"},
		{name: "8689 5: an empty reverse path: an unproven host", hosts: "self-signed", setup: "unsigned $D", send: "<> / REQUIRETLS", want: "d encrypted"},
	}
}

// labTLSRequiredNo is "TLS-Required: No" (RFC 8689 3, 4.2.2).
func labTLSRequiredNo() []labRow {
	row := func(name, hosts, setup, want string) labRow {
		return labRow{name: "8689 4.2.2: No: " + name, hosts: hosts, setup: setup, send: "TLS-Required: No", want: want}
	}
	const demand = "act 1 CLEAR-MAIL 530 5.7.0 Must issue a STARTTLS command first"
	header := func(name, text, want string) labRow {
		return labRow{name: "8689 3: " + name, hosts: "no-tls", setup: "tlsa $1 3 1 1 wrong", send: text, want: want}
	}
	return []labRow{
		row("TLSA does not match", "modern", "tlsa $1 3 1 1 wrong", "d verified"),
		row("TLSA matches: TLS all the same", "modern", "tlsa $1 3 1 1", "d dane"),
		row("TLSA and no STARTTLS", "no-tls", "tlsa $1 3 1 1 wrong", "d plaintext"),
		row("TLSA and a broken handshake", "starttls-drop", "tlsa $1 3 1 1", "d plaintext"),
		row("TLSA and TLS 1.0", "tls10-only", "tlsa $1 3 1 1", "d legacy|dane"),
		row("TLSA fails", "no-tls", "servfail $T1 TLSA", "d plaintext"),
		row("TLSA fails, and TLS is there", "modern", "servfail $T1 TLSA", "d verified"),
		row("unusable TLSA and no STARTTLS", "no-tls", "tlsa $1 1 1 1 wrong", "d plaintext"),
		row("insecure MX and TLSA that does not match", "self-signed", "unsigned $D / tlsa $1 3 1 1 wrong", "d encrypted"),
		row("a policy and no STARTTLS", "no-tls", "sts 1 enforce $1", "d plaintext"),
		row("a policy and a bad certificate", "expired", "sts 1 enforce $1", "d encrypted"),
		row("a policy that does not list the host", "modern", "sts 1 enforce mx.other.example", "d verified"),
		row("the first does not match, the second does", "modern modern", "tlsa $1 3 1 1 wrong / tlsa $2 3 1 1", "d"),
		row("MX fails", "modern", "servfail $D MX", "f dns-unknown 4.4.3"),
		row("a null MX", "modern", "rm $D MX / $D MX 0 .", "b null-mx 5.1.10"),
		row("a host that demands TLS and has it", "tls-demanded", "", "d verified"),
		row("MUST: a host that demands TLS and has none: bounce", "no-tls", demand, "b 5.7.0 clear"),
		row("a host that demands TLS, and whose handshake broke: not yet", "starttls-drop", demand, "f clear"),
		{name: "8689 4.2.2: No: the operator's floor stands: encrypted", hosts: "no-tls", rule: `floor = "encrypted"`, send: "TLS-Required: No", want: "f starttls-missing basis=rule"},
		{name: "8689 4.2.2: No: the operator's floor stands: verified", hosts: "self-signed", rule: `floor = "verified"`, send: "TLS-Required: No", want: "f certificate-untrusted basis=rule"},
		{name: "8689 4.2.2: No: the credential's floor stands", hosts: "self-signed", send: "AUTH careful / TLS-Required: No", want: "f certificate-untrusted basis=credential"},
		{name: "8689 4.2.2: No: the message's own floor stands", hosts: "no-tls", send: "TLS-Required: No / Sealpost-Min-Level: encrypted", want: "f starttls-missing basis=message"},
		header("the value in lower case", "TLS-Required: no", "d plaintext"),
		header("the field in another case, folded", "tls-required:\r\n No", "d plaintext"),
		header("another value", "TLS-Required: Yes", "f starttls-missing"),
		header("No and more", "TLS-Required: No, please", "f starttls-missing"),
		header("twice (MUST NOT)", "TLS-Required: No / TLS-Required: No", "f starttls-missing"),
		header("in another field", "X-TLS-Required: No", "f starttls-missing"),
	}
}
