package policy

import "crypto/tls"

// Level is what the evidence proves: the projection of its two axes (route, peer)
// and of the encryption on the public ladder. Never more than the rung's ceiling.
func (e Evidence) Level() Level { return min(e.proved(), e.Rung.Ceiling()) }

func (e Evidence) proved() Level {
	switch {
	case e.Rung == Clear && e.Version == 0:
		return Plaintext
	case e.Version == 0:
		return Unset // no handshake, and nobody said that this is in the clear
	case e.Version < tls.VersionTLS12 || !strong(e.Suite):
		return Legacy
	case e.Peer&PeerTLSA != 0 && e.Route.Vouched():
		return DANE
	case e.Peer&PeerWebPKI != 0 && e.Route&RouteSTSEnforce != 0:
		return MTASTS
	case e.Peer != PeerNone:
		return Verified
	default:
		return Encrypted
	}
}

// strong reports whether a suite has forward secrecy and AEAD. What is not on the
// list is weak: a suite that a later Go adds must be put here on purpose.
func strong(suite uint16) bool {
	switch suite {
	case tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		return true
	default:
		return false
	}
}

// Judge returns the level that the evidence proves, and why it is not enough for
// this step's floor; the failure is nil when it is enough. Unset never is.
func (s Step) Judge(e Evidence) (Level, *Failure) {
	level := e.Level()
	if s.Target == nil {
		return level, &Failure{Reason: Internal, Detail: "a step without a target"}
	}
	t := s.Target
	switch {
	case level == Unset || level < t.Floor.Level || e.Version != 0 && e.Version < t.MinTLS:
		return level, t.tooWeak(level, e)
	case t.Floor.Needs&NeedTLSA != 0 && e.Peer&PeerTLSA == 0:
		return level, t.tooWeak(level, e)
	case t.Floor.Needs&NeedRoute != 0 && level < MTASTS && e.Route == RouteNone:
		// RFC 8689 4.2.1 step 3: an authenticated route
		return level, &Failure{Reason: RouteUnproven, Host: t.Host}
	case t.Floor.Needs&NeedRequireTLS != 0 && !e.RequireTLS:
		// RFC 8689 4.2.1: the keyword in the EHLO after TLS
		return level, &Failure{Reason: RequireTLSMissing, Host: t.Host}
	}
	return level, nil
}

// tooWeak names the proof that is missing, as far as one is to blame.
func (t *Target) tooWeak(level Level, e Evidence) *Failure {
	f := Failure{Reason: BelowFloor, Host: t.Host,
		Detail: "reached " + level.String() + ", the floor is " + t.Floor.String()}
	if e.Version != 0 && e.Version < t.MinTLS {
		f.Detail = "the host speaks " + tls.VersionName(e.Version) + ", and the rule's min_tls asks for " + tls.VersionName(t.MinTLS)
	}
	if level >= Encrypted && e.Version >= t.MinTLS {
		blame := e.WebPKI
		if t.Floor.Needs&NeedTLSA != 0 && e.Peer&PeerTLSA == 0 {
			blame = e.TLSA // RFC 8461 2: DANE's failure is final, whatever WebPKI says
		}
		if blame != nil {
			f.Reason = blame.Reason
			if blame.Detail != "" {
				f.Detail += ": " + blame.Detail
			}
		}
	}
	return &f
}
