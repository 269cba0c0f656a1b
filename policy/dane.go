package policy

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// TLSA usages, selectors and matching types that SMTP knows (RFC 6698 2.1, RFC 7218).
const (
	usageTA      = 2 // DANE-TA
	usageEE      = 3 // DANE-EE
	selectorCert = 0
	selectorSPKI = 1
	matchingFull = 0
	matchingSHA2 = 1 // SHA-256
	matchingSHA5 = 2 // SHA-512
)

// usable returns the records that SMTP can use, weaker digests left out. Usages 0
// and 1 are unusable for SMTP (RFC 7672 3.1.3); a record whose data is not well
// formed is unusable (RFC 6698 4.1).
func usable(records []TLSARecord) []TLSARecord {
	list := make([]TLSARecord, 0, len(records))
	for _, r := range records {
		if r.usable() {
			list = append(list, r)
		}
	}
	// RFC 7671 9, digest agility: per usage and selector, matching type 0 and the
	// strongest digest count; a weaker one beside it does not.
	return slices.DeleteFunc(list, func(r TLSARecord) bool {
		return r.Matching == matchingSHA2 && slices.ContainsFunc(list, func(o TLSARecord) bool {
			return o.Usage == r.Usage && o.Selector == r.Selector && o.Matching == matchingSHA5
		})
	})
}

func (r TLSARecord) usable() bool {
	if r.Usage != usageTA && r.Usage != usageEE || r.Selector > selectorSPKI {
		return false
	}
	switch r.Matching {
	case matchingFull:
		if r.Selector == selectorCert {
			_, err := x509.ParseCertificate(r.Data)
			return err == nil
		}
		_, err := x509.ParsePKIXPublicKey(r.Data)
		return err == nil
	case matchingSHA2:
		return len(r.Data) == sha256.Size
	case matchingSHA5:
		return len(r.Data) == sha512.Size
	default:
		return false
	}
}

// matches reports whether the record is about this certificate (RFC 6698 2.1.2, 2.1.3).
func (r TLSARecord) matches(c *x509.Certificate) bool {
	data := c.Raw
	if r.Selector == selectorSPKI {
		data = c.RawSubjectPublicKeyInfo
	}
	switch r.Matching {
	case matchingFull:
		return bytes.Equal(r.Data, data)
	case matchingSHA2:
		sum := sha256.Sum256(data)
		return bytes.Equal(r.Data, sum[:])
	case matchingSHA5:
		sum := sha512.Sum512(data)
		return bytes.Equal(r.Data, sum[:])
	default:
		return false
	}
}

// verifyTLSA measures a chain against the target's usable records. nil: it matches.
//
// Stricter than OpenSSL, with crypto/x509: SHA-1 and MD5 signatures and RSA issuers
// under 1024 bits are refused at any level of security; certificates and keys that
// crypto/x509 cannot parse (negative serial numbers, Ed448) make a full record
// unusable; issuer and subject must be equal to the octet (RFC 5280 7.1 would fold
// case); critical name constraints on directory names are unknown; of several CNs the
// last counts; no more than a hundred signatures are checked. Laxer: every way to the
// anchor is tried, not the first; usage any will do (RFC 5280 4.2.1.12); "*.org" is a
// wildcard like others (RFC 7672 3.2.3 sets no limit). As Postfix sets it and not as it
// is by default: DANE-EE looks at no names (RFC 7672 3.2.1), and "m*.example.org" is
// no wildcard.
func (t *Target) verifyTLSA(chain []*x509.Certificate, now time.Time) *Failure {
	for _, r := range t.TLSA {
		// RFC 7672 3.1.1: the leaf matches; names, dates and the rest of the chain are
		// ignored.
		if r.Usage == usageEE && r.matches(chain[0]) {
			return nil
		}
	}
	mismatch := Failure{Reason: TLSAMismatch, Host: t.Host, Detail: "no TLSA record matches the certificate that the host sent"}
	anchors := findAnchors(t.TLSA, chain)
	if len(anchors) == 0 {
		return &mismatch
	}
	leaf := withDNSID(chain[0])
	// RFC 7672 3.1.2: chain, dates, usage and constraints up to the anchor. x509 takes
	// any certificate in Roots as one, self-signed or not (RFC 7671 5.2.1). An anchor
	// that has run out is none (own: RFC 5280 6.1.1 leaves it open; OpenSSL does the
	// same). The key may be used for serverAuth, any, or everything (RFC 5280 4.2.1.12).
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: poolOf(anchors), Intermediates: poolOf(chain[1:]), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		mismatch.Detail = "the chain to the TLSA anchor is not valid: " + err.Error()
		return &mismatch
	}
	if !namedAny(leaf, t.Names) {
		mismatch.Detail = "the certificate under the TLSA anchor is for another name"
		return &mismatch
	}
	return nil
}

// bareKeyChecks bounds the signatures that are checked with bare keys from DNS: a
// domain of ill will can publish hundreds of keys and send as many certificates.
const bareKeyChecks = 32

// findAnchors finds the trust anchors that the DANE-TA records stand for.
func findAnchors(records []TLSARecord, chain []*x509.Certificate) []*x509.Certificate {
	var found []*x509.Certificate
	checks := bareKeyChecks
	for _, r := range records {
		if r.Usage != usageTA {
			continue
		}
		sent := r.anchorsSent(chain)
		found = append(found, sent...)
		if len(sent) > 0 || r.Matching != matchingFull {
			continue
		}
		if r.Selector == selectorSPKI {
			found = append(found, r.signedByKey(chain, &checks)...)
			continue
		}
		// RFC 7671 5.2.2 MUST: 2 0 0 that only DNS has.
		if c, err := x509.ParseCertificate(r.Data); err == nil && !c.Equal(chain[0]) {
			found = append(found, c)
		}
	}
	return found
}

// anchorsSent are the certificates sent that the record is about: all of them, as one
// key can have several (cross-signed, renewed). The leaf is never its own authority,
// sent twice or not: a record for it has usage 3 (RFC 7671 5.1, 5.2).
func (r TLSARecord) anchorsSent(chain []*x509.Certificate) []*x509.Certificate {
	var found []*x509.Certificate
	for _, c := range chain[1:] {
		if r.matches(c) && !c.Equal(chain[0]) {
			found = append(found, c)
		}
	}
	return found
}

// signedByKey are the certificates sent that the record's key signed (2 1 0 that
// matches none of them: RFC 7671 5.2.3). The RFC speaks of the topmost; any that the
// leaf leads to is as good, and servers send more than the chain. Standing in for the
// anchor it is still an authority to be checked: x509 would ask a root for less.
func (r TLSARecord) signedByKey(chain []*x509.Certificate, checks *int) []*x509.Certificate {
	key, err := x509.ParsePKIXPublicKey(r.Data)
	if err != nil {
		return nil
	}
	signer := x509.Certificate{PublicKey: key} // the key's own type says the algorithm
	var found []*x509.Certificate
	for i, c := range chain {
		// The leaf may be the topmost, also when it is signed with its own key.
		if i > 0 && (!c.BasicConstraintsValid || !c.IsCA) {
			continue
		}
		if *checks--; *checks < 0 {
			break
		}
		if signer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			found = append(found, c)
		}
	}
	return found
}

func poolOf(list []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range list {
		p.AddCert(c)
	}
	return p
}

// withDNSID returns the leaf, or when it has no DNS-ID at all a copy in which the CN
// is one (RFC 7672 3.2.3): so that an authority's name constraints hold for it too.
func withDNSID(leaf *x509.Certificate) *x509.Certificate {
	if len(leaf.DNSNames) > 0 || leaf.Subject.CommonName == "" {
		return leaf
	}
	c := *leaf
	c.DNSNames = []string{leaf.Subject.CommonName}
	c.Extensions = append(slices.Clip(c.Extensions), pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}})
	return &c
}

// namedAny reports whether the certificate is for one of the reference names
// (RFC 7672 3.2.2).
func namedAny(leaf *x509.Certificate, names []Domain) bool {
	return slices.ContainsFunc(leaf.DNSNames, func(presented string) bool {
		return slices.ContainsFunc(names, func(n Domain) bool { return matchesName(presented, string(n)) })
	})
}

// matchesName compares a presented name with a reference name, which is lower case;
// a wildcard is the whole first label and stands for one label (RFC 7672 3.2.3).
func matchesName(presented, name string) bool {
	if strings.ContainsFunc(presented, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return false // ToLower would fold the Kelvin sign to a k
	}
	presented = strings.ToLower(presented)
	if rest, ok := strings.CutPrefix(presented, "*."); ok {
		_, parent, found := strings.Cut(name, ".")
		return found && rest == parent
	}
	return presented == name
}
