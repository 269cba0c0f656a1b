package policy

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"slices"
	"strings"
	"time"
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
func (t *Target) verifyTLSA(chain []*x509.Certificate, now time.Time) *Failure {
	anchors := x509.NewCertPool()
	anchored := false
	for _, r := range t.TLSA {
		if r.Usage == usageEE {
			// RFC 7672 3.1.1: the leaf matches; names and dates are ignored.
			if r.matches(chain[0]) {
				return nil
			}
			continue
		}
		if a := r.anchor(chain); a != nil {
			anchors.AddCert(a)
			anchored = true
		}
	}
	mismatch := Failure{Reason: TLSAMismatch, Host: t.Host, Detail: "no TLSA record matches the certificate that the host sent"}
	if !anchored {
		return &mismatch
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	// RFC 7672 3.1.2: chain, dates and constraints up to the anchor. x509 takes any
	// certificate in Roots as one, self-signed or not (RFC 7671 5.2.1).
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: anchors, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		mismatch.Detail = "the chain to the TLSA anchor is not valid: " + err.Error()
		return &mismatch
	}
	if !namedAny(chain[0], t.Names) {
		mismatch.Detail = "the certificate under the TLSA anchor is for another name"
		return &mismatch
	}
	return nil
}

// anchor finds the trust anchor that a DANE-TA record stands for: a certificate
// that was sent, or one that only DNS has (2 0 0, RFC 7671 5.2.2 MUST), or the
// topmost one sent when the record's key signed it (2 1 0, RFC 7671 5.2.3).
func (r TLSARecord) anchor(chain []*x509.Certificate) *x509.Certificate {
	for _, c := range chain[1:] {
		if r.matches(c) {
			return c
		}
	}
	if r.Matching != matchingFull {
		return nil
	}
	if r.Selector == selectorCert {
		c, err := x509.ParseCertificate(r.Data)
		if err != nil {
			return nil
		}
		return c
	}
	key, err := x509.ParsePKIXPublicKey(r.Data)
	if err != nil {
		return nil
	}
	top := chain[len(chain)-1]
	signer := x509.Certificate{PublicKey: key} // the key's own type says the algorithm
	if signer.CheckSignature(top.SignatureAlgorithm, top.RawTBSCertificate, top.Signature) != nil {
		return nil
	}
	return top
}

// namedAny reports whether the certificate is for one of the reference names
// (RFC 7672 3.2.2). The CN counts only when there is no DNS-ID at all (3.2.3).
func namedAny(leaf *x509.Certificate, names []Domain) bool {
	return slices.ContainsFunc(names, func(n Domain) bool {
		if len(leaf.DNSNames) > 0 {
			return leaf.VerifyHostname(string(n)) == nil
		}
		return matchesName(strings.ToLower(leaf.Subject.CommonName), string(n))
	})
}

// matchesName compares a presented name with a reference name; a wildcard is the
// whole first label and stands for one label (RFC 7672 3.2.3).
func matchesName(presented, name string) bool {
	if rest, ok := strings.CutPrefix(presented, "*."); ok {
		_, parent, found := strings.Cut(name, ".")
		return found && rest == parent
	}
	return presented == name
}
