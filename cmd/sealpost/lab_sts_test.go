package main

import "strings"

// labMTASTS is MTA-STS (RFC 8461) behind a validating unbound, with the default rules. Most hosts have
// no TLS: then a policy that counts keeps the mail, and one that does not lets it go.
func labMTASTS() labPart {
	rows := labSTSFirst()
	rows = append(rows, labSTSRecords()...)
	rows = append(rows, labSTSPolicies()...)
	rows = append(rows, labSTSWeb()...)
	rows = append(rows, labSTSHosts()...)
	rows = append(rows, labSTSChanges()...)
	return labPart{name: "MTA-STS", rows: rows}
}

// stsText is a policy that lists the first host, with some of it replaced.
func stsText(replace ...string) string {
	return strings.NewReplacer(replace...).Replace("policy version: STSv1|mode: enforce|mx: $1|max_age: 604800|")
}

// labSTSFirst shares its host with others: it must be the first row.
func labSTSFirst() []labRow {
	return []labRow{
		{name: "8461 4: one MX for two domains: the one with a good policy", setup: "sts 1 enforce $1", want: "d mta-sts basis=mta-sts", then: []string{"=> d mta-sts", "disconnect 1 => d mta-sts"}},
		{name: "8461 4: one MX for two domains: the one with an impossible policy", setup: "rm $D MX / $D MX 10 mx1.h000.example / sts 1 enforce mx.impossible.example", want: "f sts-mismatch"},
		{name: "8461 4: one MX for two domains: the one whose policy lists it by another name",
			setup: "rm $D MX / $D MX 10 same.$H / same.$H CNAME mx1.h000.example / sts 1 enforce same.$H", want: "f certificate-mismatch"},
	}
}

// labSTSRecords are TXT records: which of them are one.
func labSTSRecords() []labRow {
	row := func(name, txt, want string) labRow {
		return labRow{name: "8461 3.1: " + name, hosts: "no-tls", setup: txt + " / " + stsText(), want: want}
	}
	const counts, none = "f starttls-missing basis=mta-sts", "d plaintext"
	return []labRow{
		row("a record", "txt v=STSv1; id=1;", counts),
		row("without a semicolon at its end", "txt v=STSv1; id=20260101T000000", counts),
		row("without a space", "txt v=STSv1;id=1;", counts),
		row("white space before the semicolon, as the ABNF allows", "txt v=STSv1 ; id=1;", counts),
		row("white space around the fields", "txt v=STSv1;   id=1  ;", counts),
		row("two records", "txt v=STSv1; id=1; / txt v=STSv1; id=2;", none),
		row("two equal ids in two records", "txt v=STSv1; id=1; / txt v=STSv1;id=1;", none),
		row("beside TXT records of other sorts", "txt v=spf1 -all / txt some words / txt v=STSv1; id=1;", counts),
		row("beside one of another version", "txt v=STSv2; id=1; / txt v=STSv1; id=1;", counts),
		row("another version only", "txt v=STSv2; id=1;", none),
		row("the version in another case", "txt V=STSv1; id=1;", none),
		row("the version's value in another case", "txt v=stsv1; id=1;", none),
		row("the version is not first", "txt id=1; v=STSv1;", none),
		row("a space before the version", `_mta-sts.$D TXT " v=STSv1; id=1;"`, none),
		row("no id", "txt v=STSv1;", none),
		row("the id is empty", "txt v=STSv1; id=;", none),
		row("the id in another case of its name", "txt v=STSv1; ID=1;", none),
		row("an id of 32", "txt v=STSv1; id=abcdefghijklmnopqrstuvwxyzABCDEF;", counts),
		row("an id of 33", "txt v=STSv1; id=abcdefghijklmnopqrstuvwxyzABCDEFG;", none),
		row("an id with a hyphen", "txt v=STSv1; id=2026-01-01;", none),
		row("an id with a space in it", "txt v=STSv1; id=20 26;", none),
		row("an extension behind", "txt v=STSv1; id=1; foo=bar;", counts),
		row("an extension before the id", "txt v=STSv1; foo=bar; id=1;", counts),
		row("an extension that is not one", "txt v=STSv1; id=1; foo;", none),
		row("in two strings", "txts v=STSv1; i|d=1;", counts),
		row("in two strings with the version cut", "txts v=ST|Sv1; id=1;", counts),
		row("behind a CNAME", `_mta-sts.$D CNAME _mta-sts.n$D / _mta-sts.n$D TXT "v=STSv1; id=1;"`, counts),
		row("behind an insecure CNAME", `unsigned n$D / _mta-sts.$D CNAME _mta-sts.n$D / _mta-sts.n$D TXT "v=STSv1; id=1;"`, counts),
		row("by a wildcard", `*.$D TXT "v=STSv1; id=1;"`, counts),
		row("in an unsigned zone", "unsigned $D / txt v=STSv1; id=1;", counts),
		row("no record, but a policy", "", none),
		row("at the domain itself", `$D TXT "v=STSv1; id=1;"`, none),
		row("at the host", `_mta-sts.$1 TXT "v=STSv1; id=1;"`, none),
		row("the lookup fails (3.3: nothing cached: none)", "txt v=STSv1; id=1; / servfail _mta-sts.$D TXT", none),
		row("the lookup is bogus", "txt v=STSv1; id=1; / badsig _mta-sts.$D TXT", none),
		row("the lookup is refused", "txt v=STSv1; id=1; / refused _mta-sts.$D TXT", none),
		row("the lookup is not answered", "txt v=STSv1; id=1; / timeout _mta-sts.$D TXT", none),
		row("truncated over UDP", "txt v=STSv1; id=1; / truncate _mta-sts.$D TXT", counts),
	}
}

// labSTSPolicies are the texts of policies.
func labSTSPolicies() []labRow {
	row := func(name, text, want string) labRow {
		return labRow{name: "8461 3.2: " + name, hosts: "no-tls", setup: "txt v=STSv1; id=1; / " + text, want: want}
	}
	const counts, none, mismatch = "f starttls-missing basis=mta-sts", "d plaintext", "f sts-mismatch !mx1"
	return []labRow{
		row("lines end in LF", stsText("|", `\n`), counts),
		row("lines end in LF and CRLF", `policy version: STSv1\nmode: enforce|mx: $1\nmax_age: 604800|`, counts),
		row("the last line does not end", "policy version: STSv1|mode: enforce|mx: $1|max_age: 604800", counts),
		row("no white space behind the colons", stsText(": ", ":"), counts),
		row("tabs behind the colons, spaces at the ends", stsText(": ", `:\t `, "|", `  |`), counts),
		row("white space before a colon", stsText("mode:", "mode :"), none),
		row("white space before a key", stsText("mode:", " mode:"), none),
		row("lines end in CR only", stsText("|", `\r`), none),
		row("another order", "policy max_age: 604800|mx: $1|mode: enforce|version: STSv1|", counts),
		row("unknown keys", stsText("mode:", "colour: blue|mode:"), counts),
		row("a key in another case", stsText("mode:", "Mode:"), none),
		row("a mode in another case", stsText("enforce", "Enforce"), none),
		row("an unknown mode", stsText("enforce", "strict"), none),
		row("no mode", stsText("mode: enforce|", ""), none),
		row("no version", stsText("version: STSv1|", ""), none),
		row("another version", stsText("STSv1", "STSv2"), none),
		row("no max_age", stsText("max_age: 604800|", ""), none),
		row("no mx", stsText("mx: $1|", ""), none),
		row("no mx, but a key like it", stsText("mx: $1", "nmx: $1"), none),
		row("mode none without mx", "policy version: STSv1|mode: none|max_age: 604800|", none),
		row("mode none with mx", stsText("enforce", "none"), none),
		row("mode testing", stsText("enforce", "testing"), none),
		row("mode testing, the host is not listed", stsText("enforce", "testing", "mx: $1", "mx: mx.other.example"), none),
		row("the mode twice: the first counts: enforce", stsText("mode: enforce", "mode: enforce|mode: none"), counts),
		row("the mode twice: the first counts: none", stsText("mode: enforce", "mode: none|mode: enforce"), none),
		row("max_age twice", stsText("max_age: 604800", "max_age: 604800|max_age: x"), counts),
		row("max_age 0: good for this delivery", stsText("604800", "0"), counts),
		row("max_age at its maximum", stsText("604800", "31557600"), counts),
		row("max_age above its maximum", stsText("604800", "31557601"), counts),
		row("max_age of ten digits", stsText("604800", "9999999999"), counts),
		row("max_age of eleven digits", stsText("604800", "99999999999"), none),
		row("max_age below 0", stsText("604800", "-1"), none),
		row("max_age with a unit", stsText("604800", "1d"), none),
		row("max_age without a value", stsText("604800", ""), none),
		row("an empty line", stsText("mode:", "|mode:"), none),
		row("a byte order mark", stsText("version", "\ufeffversion"), none),
		row("a NUL", stsText("mode:", `x: \0|mode:`), none),
		row("an empty policy", "policy |", none),
		row("JSON", `policy {"version": "STSv1", "mode": "enforce", "mx": ["$1"], "max_age": 604800}`, none),
		{name: "8461 4.1: a wildcard for one label", setup: "sts 1 enforce *.$H", want: "d mta-sts"},
		{name: "8461 4.1: a wildcard is not for two labels", setup: "rm $D MX / $D MX 10 a.b.$H / a.b.$H A $IP1 / sts 1 enforce *.$H", want: mismatch},
		{name: "8461 4.1: a wildcard is not for the name below it", setup: "rm $D MX / $D MX 10 $H / $H A $IP1 / sts 1 enforce *.$H", want: mismatch},
		{name: "8461 4.1: a wildcard for a label too high", setup: "sts 1 enforce *.example", want: mismatch},
		{name: "8461 4.1: without regard to case", setup: "txt v=STSv1; id=1; / " + stsText("$1", "MX1.$H"), want: "d mta-sts"},
		{name: "8461 4.1: the second of two patterns", setup: "sts 1 enforce mx.other.example $1", want: "d mta-sts"},
		{name: "8461 4.1: the name's end is no match", setup: "sts 1 enforce 1.$H", want: mismatch},
		{name: "8461 4.1: the domain is not the host", setup: "sts 1 enforce $D", want: mismatch},
		{name: "8461 4.1: the CNAME's target is not the MX name", setup: "rm $1 A / $1 CNAME real.$H / real.$H A $IP1 / sts 1 enforce real.$H", want: mismatch},
		row("mx: a star alone", stsText("$1", "*"), none),
		row("mx: a wildcard within a label", stsText("$1", "mx*.$H"), none),
		row("mx: two wildcards", stsText("$1", "*.*.$H"), none),
		row("mx: a dot before", stsText("$1", ".$H"), none),
		row("mx: a U-label", stsText("$1", "b\u00fccher.example"), none),
		row("mx: an address", stsText("$1", "[127.0.0.1]"), none),
		row("mx: an A-label that is not ours", stsText("$1", "xn--bcher-kva.example"), mismatch),
	}
}

// labSTSWeb are policy hosts (RFC 8461 3.3).
func labSTSWeb() []labRow {
	row := func(name, fault, want string) labRow {
		return labRow{name: "8461 3.3: " + name, hosts: "no-tls", setup: "txt v=STSv1; id=1; / " + stsText("policy ", "policy:"+fault+" "), want: want}
	}
	const counts, none = "f starttls-missing basis=mta-sts", "d plaintext"
	rows := []labRow{
		row("404", "404", none), row("503", "503", none), row("204", "204", none), row("206", "206", none),
		row("a redirect is not followed", "302", none), row("308 to itself", "308", none),
		row("text/html (3.2)", "html", none), row("no media type (3.2)", "notype", none), row("text/plain with parameters (3.2)", "charset", counts),
		row("64 KiB and an octet", "large", none), row("64 KiB", "full", counts), row("a gzip bomb", "bomb", none), row("cut off", "truncated", none),
		row("the connection is reset", "reset", none), row("no answer", "stall", none), row("a header of 64 KiB", "largeheader", none),
		row("an expired certificate", "expired", none), row("a certificate of tomorrow", "future", none), row("a self-signed certificate", "selfsigned", none),
		row("a certificate for another name", "wrongname", none), row("a certificate for the domain", "parentname", none), row("the name as CN only", "cn", none),
		row("a wildcard two labels up", "deepwild", none), row("a wildcard for the name", "wild", counts), row("a wildcard within the label", "otherwild", none),
		row("the handshake is refused", "nosni", none), row("TLS 1.1", "tls11", none),
		{name: "8461 3.3: the policy host has no address", hosts: "no-tls", setup: "txt v=STSv1; id=1;", want: none},
		{name: "8461 3.3: the policy host's address fails", hosts: "no-tls", setup: "txt v=STSv1; id=1; / " + stsText() + " / servfail mta-sts.$D A / servfail mta-sts.$D AAAA", want: none},
		{name: "8461 3.3: the policy host is an alias", hosts: "no-tls",
			setup: "txt v=STSv1; id=1; / " + stsText() + " / rm mta-sts.$D A / mta-sts.$D CNAME web.n$D / web.n$D A 127.0.0.1", want: counts},
	}
	return rows
}
