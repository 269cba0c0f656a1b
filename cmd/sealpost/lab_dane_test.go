package main

// labDANE is DANE (RFC 7672, 7671, 6698) behind a validating unbound, with the default rules.
func labDANE() labPart {
	rows := labDANERecords()
	rows = append(rows, labDANEChains()...)
	rows = append(rows, labDANEDNS()...)
	rows = append(rows, labDANEHosts()...)
	rows = append(rows, labDANEChanges()...)
	return labPart{name: "DANE", rows: rows}
}

// labDANERecords are the records themselves: usage, selector, matching type, mixes.
func labDANERecords() []labRow {
	return []labRow{
		{name: "7672 2.2: no TLSA, TLS with a good certificate", want: "d verified"},
		{name: "7672 2.2: no TLSA, no STARTTLS: opportunistic", hosts: "no-tls", want: "d plaintext"},
		{name: "7672 2.2: no TLSA, a self-signed certificate", hosts: "self-signed", want: "d encrypted"},
		{name: "7672 3.1.1: 3 1 1 matches", setup: "tlsa $1 3 1 1", want: "d dane basis=dane"},
		{name: "7672 3.1.1: 3 1 2 matches", setup: "tlsa $1 3 1 2", want: "d dane"},
		{name: "7672 3.1.1: 3 1 0 matches", setup: "tlsa $1 3 1 0", want: "d dane"},
		{name: "7672 3.1.1: 3 0 1 matches", setup: "tlsa $1 3 0 1", want: "d dane"},
		{name: "7672 3.1.1: 3 0 2 matches", setup: "tlsa $1 3 0 2", want: "d dane"},
		{name: "7672 3.1.1: 3 0 0 matches", setup: "tlsa $1 3 0 0", want: "d dane"},
		{name: "7672 2.2: 3 1 1 does not match", setup: "tlsa $1 3 1 1 wrong", want: "f tlsa-mismatch 4.7.5 basis=dane"},
		{name: "7672 2.2: 3 1 2 does not match", setup: "tlsa $1 3 1 2 wrong", want: "f tlsa-mismatch"},
		{name: "7672 2.2: 3 0 1 does not match", setup: "tlsa $1 3 0 1 wrong", want: "f tlsa-mismatch"},
		{name: "7672 2.2: 3 0 2 does not match", setup: "tlsa $1 3 0 2 wrong", want: "f tlsa-mismatch"},
		{name: "6698 2.1.2: selector 1 holds the digest of the certificate: no match", hosts: "modern modern",
			setup: "rm $D MX / $D MX 10 $1 / tlsa $1 3 1 1 leaf@2", want: "f tlsa-mismatch"},
		{name: "7672 3.1.1: 3 0 0 with another certificate", hosts: "modern modern", setup: "rm $D MX / $D MX 10 $1 / tlsa $1 3 0 0 leaf@2", want: "f tlsa-mismatch !mx2"},
		{name: "7672 3.1.1: 3 1 0 with another key", hosts: "modern modern", setup: "rm $D MX / $D MX 10 $1 / tlsa $1 3 1 0 leaf@2", want: "f tlsa-mismatch"},
		{name: "7672 3.1.1: an expired certificate under 3 1 1 is good", hosts: "expired", setup: "tlsa $1 3 1 1", want: "d dane"},
		{name: "7672 3.1.1: an expired certificate under 3 0 1 is good", hosts: "expired", setup: "tlsa $1 3 0 1", want: "d dane"},
		{name: "7672 3.1.1: a certificate of tomorrow under 3 1 1 is good", setup: "cert 1 future / tlsa $1 3 1 1", want: "d dane"},
		{name: "7672 3.2.1: a wrong name under 3 1 1 is good", hosts: "wrong-name", setup: "tlsa $1 3 1 1", want: "d dane"},
		{name: "7672 3.2.1: a certificate without names under 3 1 1", setup: "cert 1 names= selfsigned / tlsa $1 3 1 1", want: "d dane"},
		{name: "7672 3.1.1: self-signed under 3 1 1", hosts: "self-signed", setup: "tlsa $1 3 1 1", want: "d dane"},
		{name: "7672 3.1.1: by an unknown CA under 3 1 1", setup: "cert 1 other / tlsa $1 3 1 1", want: "d dane"},
		{name: "7672 3.1.1: an Ed25519 certificate under 3 1 1", setup: "cert 1 ed25519 / tlsa $1 3 1 1", want: "d dane"},
		{name: "7672 3.1.1: an RSA certificate under 3 1 1", setup: "cert 1 rsa / tlsa $1 3 1 1", want: "d dane"},
		{name: "7671 8: a bad record beside a good one", setup: "tlsa $1 3 1 1 wrong / tlsa $1 3 1 1", want: "d dane"},
		{name: "7671 8.1: old and new key published", hosts: "modern modern", setup: "rm $D MX / $D MX 10 $1 / tlsa $1 3 1 1 leaf@2 / tlsa $1 3 1 1", want: "d dane"},
		{name: "7671 8.4: 3 1 1 wrong, 2 0 1 good", setup: "cert 1 root / tlsa $1 3 1 1 wrong / tlsa $1 2 0 1", want: "d dane"},
		{name: "7671 8.4: 3 1 1 good, 2 0 1 wrong", setup: "tlsa $1 2 0 1 wrong / tlsa $1 3 1 1", want: "d dane"},
		{name: "7672 2.2: all of several are wrong", setup: "tlsa $1 3 1 1 wrong / tlsa $1 3 0 1 wrong / tlsa $1 2 0 1 wrong", want: "f tlsa-mismatch"},
		{name: "7671 9: digest agility: SHA-512 wrong, SHA-256 good: the stronger counts", setup: "tlsa $1 3 1 2 wrong / tlsa $1 3 1 1", want: "f tlsa-mismatch"},
		{name: "7671 9: digest agility: SHA-512 good, SHA-256 wrong", setup: "tlsa $1 3 1 1 wrong / tlsa $1 3 1 2", want: "d dane"},
		{name: "7671 9: agility is per selector: 3 0 2 wrong leaves 3 1 1 in force", setup: "tlsa $1 3 0 2 wrong / tlsa $1 3 1 1", want: "d dane"},
		{name: "7671 9: agility is per usage: 2 1 2 wrong leaves 3 1 1 in force", setup: "tlsa $1 2 1 2 wrong / tlsa $1 3 1 1", want: "d dane"},
		{name: "7671 9: matching type 0 counts always: 3 1 0 good, 3 1 2 wrong", setup: "tlsa $1 3 1 0 / tlsa $1 3 1 2 wrong", want: "d dane"},
		{name: "7671 9: a malformed SHA-512 does not disable SHA-256", setup: "tlsa $1 3 1 2 short / tlsa $1 3 1 1", want: "d dane"},
		{name: "7671 9: an unknown matching type does not disable SHA-256", setup: "tlsa $1 3 1 9 / tlsa $1 3 1 1", want: "d dane"},
		{name: "7672 3.1.3: usage 0 only: unusable, encryption", setup: "tlsa $1 0 0 1", want: "d verified"},
		{name: "7672 3.1.3: usage 1 only: unusable, encryption, name and chain do not matter", hosts: "self-signed", setup: "tlsa $1 1 1 1", want: "d encrypted basis=dane"},
		{name: "7672 2.2: usage 1 only, and no STARTTLS", hosts: "no-tls", setup: "tlsa $1 1 1 1 wrong", want: "f starttls-missing 4.7.4"},
		{name: "7672 3.1.3: usage 1 wrong beside a good 3 1 1", setup: "tlsa $1 1 1 1 wrong / tlsa $1 3 1 1", want: "d dane"},
		{name: "7672 2.2: usage 1 good beside a wrong 3 1 1", setup: "tlsa $1 1 1 1 / tlsa $1 3 1 1 wrong", want: "f tlsa-mismatch"},
		{name: "6698 4.1: usage 255 is unusable", hosts: "self-signed", setup: "tlsa $1 255 1 1", want: "d encrypted"},
		{name: "6698 4.1: usage 4 is unusable, and no STARTTLS", hosts: "no-tls", setup: "tlsa $1 4 1 1 wrong", want: "f starttls-missing"},
		{name: "6698 4.1: selector 2 is unusable", hosts: "self-signed", setup: "tlsa $1 3 2 1", want: "d encrypted"},
		{name: "6698 4.1: selector 255 is unusable, and STARTTLS breaks", hosts: "starttls-drop", setup: "tlsa $1 3 255 1", want: "f handshake-eof"},
		{name: "6698 4.1: matching type 3 is unusable", hosts: "self-signed", setup: "tlsa $1 3 1 3", want: "d encrypted"},
		{name: "6698 4.1: matching type 255 is unusable, and no STARTTLS", hosts: "no-tls", setup: "tlsa $1 3 1 255 wrong", want: "f starttls-missing"},
		{name: "6698 4.1: a digest that is too short is unusable", hosts: "self-signed", setup: "tlsa $1 3 1 1 short", want: "d encrypted"},
		{name: "6698 4.1: a digest that is too long is unusable", hosts: "self-signed", setup: "tlsa $1 3 1 1 long", want: "d encrypted"},
		{name: "6698 4.1: a truncated certificate is unusable", hosts: "self-signed", setup: "tlsa $1 3 0 0 short", want: "d encrypted"},
		{name: "6698 4.1: malformed only, and no STARTTLS", hosts: "no-tls", setup: "tlsa $1 3 1 1 short", want: "f starttls-missing"},
		{name: "7672 2.2: malformed beside a good one", setup: "tlsa $1 3 1 1 short / tlsa $1 3 1 1", want: "d dane"},
		{name: "7672 2.2: malformed beside a wrong one", setup: "tlsa $1 3 1 1 short / tlsa $1 3 1 1 wrong", want: "f tlsa-mismatch"},
		{name: "7672 2.2: a record for another port says nothing", hosts: "no-tls", setup: "tlsa $1:26 3 1 1 wrong", want: "d plaintext"},
		{name: "7672 2.2: a record for UDP says nothing", hosts: "self-signed", setup: "_$P._udp.$1 TLSA 3 1 1 " + zeros, want: "d encrypted"},
		{name: "7672 2.2: a record for the domain instead of the host says nothing", hosts: "self-signed", setup: "tlsa $D 3 1 1 wrong", want: "d encrypted"},
		{name: "4592 3.3: a wildcard TLSA record stands for the port's name", setup: "*._tcp.$1 TLSA 3 1 1 " + zeros, want: "f tlsa-mismatch"},
		{name: "4592 3.3: a wildcard for all hosts' TLSA names, none for a host that has names below", hosts: "self-signed", setup: "*.$H TLSA 3 1 1 " + zeros, want: "d encrypted"},
		{name: "7672 2.2: a broken record set of 20 with one good", setup: "tlsa $1 3 1 1" + twenty(), want: "d dane"},
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// twenty is 20 other records.
func twenty() (text string) {
	for i := range 20 {
		text += " / $T1 TLSA 3 1 1 " + zeros[2:] + string("0123456789abcdefghij"[i%10]) + string("0123456789abcdef"[i/10])
	}
	return text
}

// labDANEChains are trust anchors: DANE-TA(2).
func labDANEChains() []labRow {
	return []labRow{
		{name: "7672 3.1.2: 2 0 1, the root is sent", setup: "cert 1 root / tlsa $1 2 0 1", want: "d dane"},
		{name: "7672 3.1.2: 2 1 1, the root is sent", setup: "cert 1 root / tlsa $1 2 1 1", want: "d dane"},
		{name: "7672 3.1.2: 2 0 2, the root is sent", setup: "cert 1 root / tlsa $1 2 0 2", want: "d dane"},
		{name: "7672 3.1.2: 2 1 2, the root is sent", setup: "cert 1 root / tlsa $1 2 1 2", want: "d dane"},
		{name: "7672 3.1.2: 2 1 1 of a root of its own, which WebPKI does not know", setup: "cert 1 other inter / tlsa $1 2 1 1 inter", want: "d dane"},
		{name: "7671 5.2.1: 2 0 1 of an intermediate", setup: "cert 1 inter / tlsa $1 2 0 1 inter", want: "d dane"},
		{name: "7671 5.2.1: 2 1 1 of an intermediate", setup: "cert 1 inter / tlsa $1 2 1 1 inter", want: "d dane"},
		{name: "7671 5.2.1: 2 1 1 of an intermediate of an unknown root", setup: "cert 1 otherinter / tlsa $1 2 1 1 inter", want: "d dane"},
		{name: "7671 5.2.1: 2 0 1 of an intermediate that is not sent", setup: "cert 1 inter nochain / tlsa $1 2 0 1 inter", want: "f tlsa-mismatch"},
		{name: "7671 5.2.3: 2 0 1, the root is not sent", setup: "tlsa $1 2 0 1", want: "f tlsa-mismatch"},
		{name: "7671 5.2.2: 2 0 0: the root comes from DNS alone", setup: "tlsa $1 2 0 0", want: "d dane"},
		{name: "7671 5.2.2: 2 0 0 of an intermediate that is not sent", setup: "cert 1 inter nochain / tlsa $1 2 0 0 inter", want: "d dane"},
		{name: "7671 5.2.3: 2 1 0: the key comes from DNS alone", setup: "tlsa $1 2 1 0", want: "d dane"},
		{name: "7671 5.2.3: 2 1 0 of an intermediate's key, nothing else sent", setup: "cert 1 inter nochain / tlsa $1 2 1 0 inter", want: "d dane"},
		{name: "7671 5.2.2: 2 0 0 of a root that has not signed it", hosts: "self-signed", setup: "tlsa $1 2 0 0", want: "f tlsa-mismatch"},
		{name: "7671 5.2.3: 2 1 0 of a key that has not signed it", hosts: "self-signed", setup: "tlsa $1 2 1 0", want: "f tlsa-mismatch"},
		{name: "7672 3.1.2: 2 0 1 wrong", setup: "cert 1 root / tlsa $1 2 0 1 wrong", want: "f tlsa-mismatch"},
		{name: "7672 3.1.2: the leaf under usage 2 is no anchor of itself", setup: "tlsa $1 2 0 1 leaf", want: "f tlsa-mismatch"},
		{name: "7672 3.1.2: the anchor under usage 3 is not the leaf", setup: "cert 1 root / tlsa $1 3 0 1 root", want: "f tlsa-mismatch"},
		{name: "7672 3.1.2: the root is sent, and has not signed the leaf", setup: "cert 1 selfsigned / tlsa $1 2 0 1", want: "f tlsa-mismatch"},
		{name: "7672 3.1.2: an expired leaf under 2 0 1", setup: "cert 1 expired root / tlsa $1 2 0 1", want: "f tlsa-mismatch"},
		{name: "7672 3.1.2: a leaf of tomorrow under 2 0 1", setup: "cert 1 future root / tlsa $1 2 0 1", want: "f tlsa-mismatch"},
		{name: "7672 3.2.2: the next-hop domain under a secure MX", setup: "cert 1 names=$D root / tlsa $1 2 0 1", want: "d dane"},
		{name: "7672 3.2.2: another name", setup: "cert 1 names=www.other.example root / tlsa $1 2 0 1", want: "f tlsa-mismatch"},
		{name: "7672 3.2.3: a wildcard for the host", setup: "cert 1 names=*.$H root / tlsa $1 2 0 1", want: "d dane"},
		{name: "7672 3.2.3: a wildcard stands for one label: for the domain, not for the host", setup: "cert 1 names=*.example root / tlsa $1 2 0 1", want: "d dane"},
		{name: "7672 3.2.3: a wildcard stands for one label, and the domain does not count", setup: "unsigned $D / cert 1 names=*.example root / tlsa $1 2 0 1", want: "f tlsa-mismatch"},
		{name: "7672 3.2.3: a wildcard within a label is none", setup: "cert 1 names=mx*.$H root / tlsa $1 2 0 1", want: "f tlsa-mismatch"},
		{name: "7672 3.2.3: CN only", setup: "cert 1 names= cn=$1 root / tlsa $1 2 0 1", want: "d dane"},
		{name: "7672 3.2.3: CN only, wrong", setup: "cert 1 names= cn=www.other.example root / tlsa $1 2 0 1", want: "f tlsa-mismatch"},
		{name: "7672 3.2.3: a good CN beside a wrong DNS-ID does not count", setup: "cert 1 names=www.other.example cn=$1 root / tlsa $1 2 0 1", want: "f tlsa-mismatch"},
		{name: "7672 3.2.2: an insecure MX: the base alone counts, not the domain", setup: "unsigned $D / cert 1 names=$D root / tlsa $1 2 0 1", want: "f tlsa-mismatch"},
		{name: "7672 3.2.2: an insecure MX: the base counts", setup: "unsigned $D / cert 1 root / tlsa $1 2 0 1", want: "d verified"},
		{name: "7672 3.2.2: names in another case", setup: "cert 1 names=MX1.$H root / tlsa $1 2 0 1", want: "d dane"},
		{name: "7671 8: 2 0 1 of the wrong chain beside 2 0 1 of the right one", setup: "cert 1 root / tlsa $1 2 0 1 wrong / tlsa $1 2 0 1", want: "d dane"},
		{name: "7671 9: agility under DANE-TA: 2 1 2 wrong, 2 1 1 good", setup: "cert 1 root / tlsa $1 2 1 2 wrong / tlsa $1 2 1 1", want: "f tlsa-mismatch"},
	}
}
