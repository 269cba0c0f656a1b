package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"
)

func (s *settler) submission() {
	c := s.config
	if c.Submission == nil && !s.given(c, "submission") {
		one := submissionTable()
		c.Submission = make([]Submission, 1)
		for _, f := range one.fields {
			f.reset(&c.Submission[0])
		}
	}
	if m := s.places[c].member("submission"); len(c.Submission) == 0 && !m.value.bad {
		s.wrong(c, "submission", "there is no submission listener", "write a [[submission]] table, or leave the key out for the default one")
	}
	for i := range c.Submission {
		l := &c.Submission[i]
		s.listener(l, "submission", l.Listen)
		s.protection(l)
		if l.MaxRecipients < leastRecipients && s.sound(l, "max_recipients") {
			s.report.note(s.at(l, "max_recipients"), fmt.Sprintf("submission.max_recipients %d is below %d", l.MaxRecipients, leastRecipients),
				"RFC 5321 4.5.3.1.8 wants at least that many to be taken")
		}
		s.admission(l)
	}
}

// leastRecipients is RFC 5321 4.5.3.1.8.
const leastRecipients = 100

// protection settles and judges the TLS of a listener.
func (s *settler) protection(l *Submission) {
	hasCert, hasKey := s.given(l, "cert_file"), s.given(l, "key_file")
	hasCert = hasCert && (l.CertFile != "" || !s.sound(l, "cert_file"))
	hasKey = hasKey && (l.KeyFile != "" || !s.sound(l, "key_file"))
	if !s.given(l, "tls") && !l.Exposed() && !hasCert && !hasKey {
		l.TLS = NoTLS
	}
	switch {
	case hasCert && !hasKey:
		s.wrong(l, "cert_file", "the listener has a cert_file and no key_file", "write key_file, the private key of the certificate")
	case hasKey && !hasCert:
		s.wrong(l, "key_file", "the listener has a key_file and no cert_file", "write cert_file, the certificate of the key")
	case hasCert && s.sound(l, "cert_file", "key_file"):
		s.certificate(l)
	}
	if !s.sound(l, "listen", "tls", "proxy_protocol_from") {
		return
	}
	switch {
	case l.TLS == NoTLS && !l.Exposed():
	case l.TLS == NoTLS:
		s.wrong(l, "tls", fmt.Sprintf("submission.tls is \"none\" and other machines can reach %s", l.Listen),
			`write tls = "starttls" or "implicit" with cert_file and key_file, or listen on 127.0.0.1`)
	case !hasCert && !hasKey:
		name, mend := "tls", "write cert_file and key_file"
		if !l.Exposed() {
			mend += `, or tls = "none", which will do on loopback`
		}
		if !s.given(l, name) {
			name = "listen"
		}
		s.wrong(l, name, fmt.Sprintf("the listener on %s speaks TLS (%s) and has no certificate", l.Listen, l.TLS),
			mend)
	}
}

// certificate looks at the files of a certificate: they must be a pair. One that
// is out of date is worth a note only: it may be about to be renewed.
func (s *settler) certificate(l *Submission) {
	chain, okChain := s.pem(l, "cert_file", l.CertFile)
	key, okKey := s.pem(l, "key_file", l.KeyFile)
	if !okChain || !okKey {
		return
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		s.wrong(l, "cert_file", "cert_file and key_file are no pair: "+err.Error(),
			"give the certificate chain, the host's own first, and its private key")
		return
	}
	now := time.Now()
	switch leaf := pair.Leaf; {
	case leaf == nil:
	case now.After(leaf.NotAfter):
		s.report.note(s.at(l, "cert_file"), "the certificate expired on "+leaf.NotAfter.Format(time.DateOnly), "renew it")
	case now.Before(leaf.NotBefore):
		s.report.note(s.at(l, "cert_file"), "the certificate is not valid before "+leaf.NotBefore.Format(time.DateOnly), "look at the clock")
	}
}

// pem reads a file that must hold PEM.
func (s *settler) pem(section any, name, path string) ([]byte, bool) {
	text, err := readFile(path, 1<<20)
	if err != nil {
		s.wrong(section, name, fmt.Sprintf("%s %q cannot be read: %v", name, clip(path), err), "give the path of a readable PEM file")
		return nil, false
	}
	if block, _ := pem.Decode(text); block == nil {
		s.wrong(section, name, fmt.Sprintf("%s %q holds no PEM", name, clip(path)), "it must hold a part that begins with -----BEGIN")
		return nil, false
	}
	return text, true
}

func (s *settler) roots(d *Delivery) {
	if !s.sound(d, "ca_file") {
		return
	}
	text, ok := s.pem(d, "ca_file", d.CAFile)
	if ok && !x509.NewCertPool().AppendCertsFromPEM(text) {
		s.wrong(d, "ca_file", fmt.Sprintf("ca_file %q holds no certificate", clip(d.CAFile)), "give a file with root certificates")
	}
}

// admission settles and judges who may submit: an open relay is refused.
func (s *settler) admission(l *Submission) {
	sound := s.sound(l, "listen", "proxy_protocol_from", "require_auth", "trusted_networks")
	if !s.given(l, "require_auth") {
		l.RequireAuth = l.Exposed()
	}
	if !sound || !l.Exposed() {
		return
	}
	if !l.RequireAuth && len(l.TrustedNetworks) == 0 {
		s.wrong(l, "require_auth", fmt.Sprintf("require_auth is off and anybody who can reach %s may send mail", l.Listen),
			"write require_auth = true, or trusted_networks")
	}
	for i, n := range l.TrustedNetworks {
		if n.Bits() == 0 {
			s.report.add(s.item(l, "trusted_networks", i), fmt.Sprintf("trusted_networks holds %s, which is everybody: an open relay", n), "name your own networks")
		}
	}
}
