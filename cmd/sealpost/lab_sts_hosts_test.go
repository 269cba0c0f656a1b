package main

// labSTSHosts are hosts under a policy in enforce mode (RFC 8461 4, 5), and DANE beside it.
func labSTSHosts() []labRow {
	const enforce = "sts 1 enforce $1 / "
	const both = "sts 1 enforce $1 $2 / "
	row := func(name, kind, want string) labRow {
		return labRow{name: "8461 5: enforce and " + name, hosts: kind, setup: "unsigned $D / unsigned $H / " + enforce, want: want}
	}
	cert := func(name, options, want string) labRow {
		return labRow{name: "8461 4.2: the host's certificate: " + name, setup: enforce + "cert 1 " + options, want: want}
	}
	return []labRow{
		row("a good host", "modern", "d mta-sts"), row("TLS 1.2", "tls12-only", "d mta-sts"), row("a short ClientHello", "small-hello", "d mta-sts"),
		row("no STARTTLS", "no-tls", "f starttls-missing 4.7.4"), row("454", "starttls-454", "f starttls-temporary"), row("554 to STARTTLS", "starttls-554", "f starttls-refused"),
		row("502 to STARTTLS", "starttls-502", "f starttls-refused"), row("EOF in the handshake", "starttls-drop", "f handshake-eof"),
		row("a reset in the handshake", "starttls-reset", "f handshake-eof"), row("a stalled handshake", "starttls-stall", "f handshake-stall"),
		row("bytes injected behind the 220", "starttls-injected", "f bytes-injected"), row("a handshake that breaks once", "starttls-once", "d mta-sts"),
		row("TLS 1.1 only", "tls11-only", "f handshake-version|below-floor|certificate-untrusted"), row("TLS 1.0 only", "tls10-only", "f handshake-version|below-floor|certificate-untrusted"),
		row("RSA key exchange", "rsa-exchange", "f handshake-version|below-floor"), row("a host that knows no EHLO", "helo-only", "f starttls-missing"),
		row("a self-signed certificate", "self-signed", "f certificate-untrusted 4.7.5"), row("an expired certificate", "expired", "f certificate-expired"),
		row("a certificate for another name", "wrong-name", "f certificate-mismatch"),
		row("a host that is not there", "greeting-reset", "f connection-lost"), row("a host that knows no recipient", "refusing", "b reply-permanent 5.1.1"),
		row("a greylisting host", "greylisting", "f reply-temporary"), row("a host that refuses to speak", "greeting-554", "b greeting-permanent"),
		cert("CN only", "names= cn=$1", "f certificate-mismatch"), cert("a good CN beside a wrong DNS-ID", "names=www.other.example cn=$1", "f certificate-mismatch"),
		cert("a wildcard for one label", "names=*.$H", "d mta-sts"), cert("a wildcard for two labels", "names=*.example", "f certificate-mismatch"),
		cert("a wildcard within a label", "names=mx*.$H", "f certificate-mismatch"), cert("for the domain", "names=$D", "f certificate-mismatch"),
		cert("by another CA", "other", "f certificate-untrusted"), cert("by another CA, which is sent", "other root", "f certificate-untrusted"),
		cert("by an intermediate", "inter", "d mta-sts"), cert("by an intermediate that is not sent", "inter nochain", "f certificate-untrusted"),
		cert("of tomorrow", "future", "f certificate-expired|certificate-untrusted"), cert("names in another case", "names=MX1.$H", "d mta-sts"),
		{name: "8461 4.2: an alias: the certificate is for the MX name", setup: enforce + "rm $1 A / $1 CNAME real.$H / real.$H A $IP1", want: "d mta-sts"},
		{name: "8461 4.2: an alias: the certificate is for the target", setup: enforce + "rm $1 A / $1 CNAME real.$H / real.$H A $IP1 / cert 1 names=real.$H", want: "f certificate-mismatch"},
		{name: "8461 4.2: the pattern is a wildcard, the certificate is for a sister of the host", setup: "sts 1 enforce *.$H / cert 1 names=mx9.$H", want: "f certificate-mismatch"},
		{name: "8461 7.1: SNI is the MX name", setup: enforce + "sni 1 $1", want: "d mta-sts"},
		{name: "8461 4: no MX: the domain is the host, and listed", setup: "sts 1 enforce $D / rm $D MX / $D A $IP1 / cert 1 names=$D", want: "d mta-sts"},
		{name: "8461 4: no MX: the domain is the host, and not listed", setup: "sts 1 enforce mx.other.example / rm $D MX / $D A $IP1 / cert 1 names=$D", want: "f sts-mismatch !mx1"},
		{name: "8461 4: MX fails", setup: enforce + "servfail $D MX", want: "f dns-unknown 4.4.3 !mx1"},
		{name: "7505 3: null MX and a policy", setup: enforce + "rm $D MX / $D MX 0 .", want: "b null-mx 5.1.10"},
		{name: "8461 8.4: the first is not listed, the second is", hosts: "modern modern", setup: "sts 1 enforce $2", want: "d mta-sts mx2 !mx1"},
		{name: "8461 8.4: the first is listed and broken, the second is not listed", hosts: "no-tls modern", setup: "sts 1 enforce $1", want: "f starttls-missing|sts-mismatch !mx2"},
		{name: "8461 5: the first is listed and has no TLS, the second is good", hosts: "no-tls modern", setup: both, want: "d mta-sts mx2"},
		{name: "8461 5: the first has a bad certificate, the second is good", hosts: "self-signed modern", setup: both, want: "d mta-sts mx2"},
		{name: "8461 5: none of two is good", hosts: "no-tls expired", setup: both, want: "f"},
		{name: "8461 5: equal preference, one good", hosts: "self-signed=modern", setup: both, want: "d mta-sts mx2"},
		{name: "8461 5: none of two is listed", hosts: "modern modern", setup: "sts 1 enforce mx.other.example", want: "f sts-mismatch 4.7.5 !mx1 !mx2"},
		{name: "8461 5.1: one is not listed, the other has no address: waits", hosts: "modern modern", setup: "sts 1 enforce $2 / rm $2 A", want: "f sts-mismatch !mx1"},
		{name: "8461 5: the listed host is down, the other is not listed", hosts: "greeting-421 modern", setup: "sts 1 enforce $1", want: "f !mx2"},
		{name: "8461 5: testing: no STARTTLS", hosts: "no-tls", setup: "sts 1 testing $1", want: "d plaintext"},
		{name: "8461 5: testing: a bad certificate", hosts: "self-signed", setup: "sts 1 testing $1", want: "d encrypted"},
		{name: "8461 5: testing: the host is not listed", setup: "sts 1 testing mx.other.example", want: "d verified mx1"},
		{name: "8461 5: testing: all is good", setup: "sts 1 testing $1", want: "d verified"},

		{name: "8461 2: DANE passes, the policy lists another host: DANE decides", setup: "sts 1 enforce mx.other.example / tlsa $1 3 1 1", want: "d dane"},
		{name: "8461 2: DANE passes, WebPKI does not: DANE decides", hosts: "self-signed", setup: enforce + "tlsa $1 3 1 1", want: "d dane"},
		{name: "8461 2 MUST NOT: DANE fails, the policy passes", setup: enforce + "tlsa $1 3 1 1 wrong", want: "f tlsa-mismatch"},
		{name: "8461 2 MUST NOT: TLSA fails, the policy passes", setup: enforce + "servfail $T1 TLSA", want: "f tlsa-unknown !mx1"},
		{name: "8461 2: DANE and the policy pass", setup: enforce + "tlsa $1 3 1 1", want: "d dane"},
		{name: "8461 5: unusable TLSA: the policy decides: passes", setup: enforce + "tlsa $1 1 1 1", want: "d mta-sts"},
		{name: "8461 5: unusable TLSA: the policy decides: fails", hosts: "self-signed", setup: enforce + "tlsa $1 1 1 1", want: "f certificate-untrusted"},
		{name: "8461 5: unusable TLSA: the policy decides: not listed", setup: "sts 1 enforce mx.other.example / tlsa $1 1 1 1", want: "f sts-mismatch !mx1"},
		{name: "8461 2: testing and DANE fails", setup: "sts 1 testing $1 / tlsa $1 3 1 1 wrong", want: "f tlsa-mismatch"},
		{name: "8461 2: DANE fails at the first, the policy lists the second", hosts: "modern modern", setup: both + "tlsa $1 3 1 1 wrong", want: "d mta-sts mx2"},
		{name: "8461 5: insecure MX, TLSA matches, the policy does not list the host: a forged MX", setup: "unsigned $D / sts 1 enforce mx.other.example / tlsa $1 3 1 1", want: "f sts-mismatch !mx1"},
		{name: "8461 5: insecure MX, TLSA matches, a self-signed certificate under a policy", hosts: "self-signed", setup: "unsigned $D / " + enforce + "tlsa $1 3 1 1", want: "f certificate-untrusted"},
		{name: "8461 5: insecure MX, TLSA and the policy pass", setup: "unsigned $D / " + enforce + "tlsa $1 3 1 1", want: "d mta-sts"},
		{name: "8461 2 MUST NOT: insecure MX, TLSA fails, the policy passes", setup: "unsigned $D / " + enforce + "tlsa $1 3 1 1 wrong", want: "f tlsa-mismatch"},
	}
}

// labSTSChanges are policies that change (RFC 8461 3.3, 5.1, 8.3).
func labSTSChanges() []labRow {
	const enforce, stripped = "sts 1 enforce $1", "become 1 no-tls => f starttls-missing basis=mta-sts"
	row := func(name, setup, want string, then ...string) labRow {
		return labRow{name: "8461 " + name, setup: setup, want: want, then: then}
	}
	plain := func(name, setup, want string, then ...string) labRow {
		return labRow{name: "8461 " + name, hosts: "no-tls", setup: setup, want: want, then: then}
	}
	const kept = "f starttls-missing basis=mta-sts"
	return []labRow{
		row("3.3 MUST: the record is gone: the cached policy applies", enforce, "d mta-sts", "rm _mta-sts.$D TXT / "+stripped),
		row("3.3 MUST: the record fails: the cached policy applies", enforce, "d mta-sts", "servfail _mta-sts.$D TXT / "+stripped),
		row("3.3 MUST: the record is bogus: the cached policy applies", enforce, "d mta-sts", "badsig _mta-sts.$D TXT / "+stripped),
		row("3.3 MUST: the record turns invalid: the cached policy applies", enforce, "d mta-sts", "rm _mta-sts.$D TXT / txt v=STSv1; id=; / "+stripped),
		row("3.3 MUST: two records now: the cached policy applies", enforce, "d mta-sts", "txt v=STSv1; id=2; / "+stripped),
		row("3.3 MUST: a new id, and the web host is down: the cached policy applies", enforce, "d mta-sts", "sts 2 enforce:503 $1 / "+stripped),
		row("3.3 MUST: a new id, and a bad certificate: the cached policy applies", enforce, "d mta-sts", "sts 2 enforce:expired $1 / "+stripped),
		row("3.3 MUST: a new id, and an invalid policy: the cached policy applies", enforce, "d mta-sts", "sts 2 strict $1 / "+stripped),
		row("3.3 MUST: a new id, and the policy host is gone", enforce, "d mta-sts", "rm _mta-sts.$D TXT / txt v=STSv1; id=2; / rm mta-sts.$D A / "+stripped),
		row("3.1: the policy changes without a new id: the cached one applies", enforce, "d mta-sts", stsText("enforce", "none")+" / "+stripped),
		row("8.3: a new id, and mode none", enforce, "d mta-sts", "sts 2 none / become 1 no-tls => d plaintext"),
		row("8.3: mode none without a new id counts only once it is fetched", enforce, "d mta-sts", "become 1 no-tls / "+stsText("enforce", "none")+" => "+kept),
		row("5: a new id, and mode testing", enforce, "d mta-sts", "sts 2 testing $1 / become 1 no-tls => d plaintext"),
		row("5.1: a new id, and the host is not listed any more", enforce, "d mta-sts", "sts 2 enforce mx.other.example => f sts-mismatch"),
		row("5.1: the host is listed at last: the message that waited goes", "sts 1 enforce mx.other.example", "f sts-mismatch", "sts 2 enforce $1 / retry => d mta-sts"),
		row("5.1: the MX moves, and the policy with it", enforce, "d mta-sts", "rm $D MX / $D MX 10 new.$H / new.$H A $IP1 / cert 1 names=new.$H / disconnect 1 / sts 2 enforce new.$H => d mta-sts"),
		row("5.1: the MX moves, and the policy does not", enforce, "d mta-sts", "rm $D MX / $D MX 10 new.$H / new.$H A $IP1 / cert 1 names=new.$H / disconnect 1 => f sts-mismatch"),
		row("3.2: max_age is over, and the record is gone: none", "txt v=STSv1; id=1; / "+stsText("604800", "1"), "d mta-sts", "rm _mta-sts.$D TXT / become 1 no-tls => d plaintext"),
		row("3.3: max_age is over, and the web host is down: none", "txt v=STSv1; id=1; / "+stsText("604800", "1"), "d mta-sts",
			stsText("604800", "1", "policy ", "policy:503 ")+" / become 1 no-tls => d plaintext"),
		row("3.3: max_age is over, and the policy is there", "txt v=STSv1; id=1; / "+stsText("604800", "1"), "d mta-sts", stripped),
		plain("8.3: from none to enforce", "sts 1 none", "d plaintext", "sts 2 enforce $1 => "+kept),
		plain("5: from testing to enforce", "sts 1 testing $1", "d plaintext", "sts 2 enforce $1 => "+kept),
		plain("3.3: a policy that failed, and a new id", "sts 1 enforce:404 $1", "d plaintext", "sts 2 enforce $1 => "+kept),
		plain("3.3: a policy that failed is not asked for again at once under the same id", "sts 1 enforce:404 $1", "d plaintext", "sts 1 enforce $1 => d plaintext"),
		plain("3: a policy appears", "", "d plaintext", enforce+" => "+kept),
		{name: "8461 4.2: a policy appears: a session that stands is judged again", hosts: "self-signed", want: "d encrypted", then: []string{enforce + " => f certificate-untrusted"}},
		{name: "8461 4.2: a session of a good host stands, its certificate goes bad", setup: enforce, want: "d mta-sts", then: []string{"cert 1 selfsigned / disconnect 1 => f certificate-untrusted"}},
		{name: "8461 5: STARTTLS comes back: the message that waited goes", hosts: "no-tls", setup: enforce, want: kept, then: []string{"become 1 modern / cert 1 / retry => d mta-sts"}},
		{name: "7672 2.2: the policy stands, and TLSA records appear that do not match", setup: enforce, want: "d mta-sts", then: []string{"tlsa $1 3 1 1 wrong => f tlsa-mismatch"}},
		{name: "8461 5: TLSA records go, and the policy stays", setup: enforce + " / tlsa $1 3 1 1", want: "d dane", then: []string{"rm $T1 TLSA => d mta-sts", "cert 1 selfsigned / disconnect 1 => f certificate-untrusted"}},
	}
}
