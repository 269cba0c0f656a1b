package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// guarded sets what every answer has, refuses what only a broken or hostile client
// sends, and turns a panic into a 500 without its text.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		defer func() {
			// A deliberate abort goes on to net/http, which cuts the connection.
			if v := recover(); v == http.ErrAbortHandler {
				panic(v)
			} else if v != nil {
				s.log.Error("http: handler failed", "path", r.URL.Path, "error", v)
				writeProblem(w, internal())
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// localOnly refuses a request that came over loopback for a name that is not
// ours. A hostile page can have its own name point at 127.0.0.1 (DNS rebinding):
// then the browser of whoever sits here reads the answer for it. Such a request
// carries the hostile name as its Host. Where the listener is not on loopback,
// names are the operator's business.
func (s *Server) localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if onLoopback(r) && !s.knownHost(r.Host) {
			writeProblem(w, problem(http.StatusMisdirectedRequest,
				"this server does not answer for the name in the Host field: use localhost, or add the name to the configuration"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// onLoopback fails closed: an unknown local address counts as loopback.
func onLoopback(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return !ok || addr.IP.IsLoopback()
}

func (s *Server) knownHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	// RFC 6761 6.3: every name below localhost is loopback.
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	if s.o.Hostname != "" && strings.EqualFold(s.o.Hostname, host) {
		return true
	}
	return slices.ContainsFunc(s.o.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// withToken lets pass who has the token (RFC 6750 2.1). Without a token in the
// configuration nobody passes.
func (s *Server) withToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.o.Token == "" {
			writeProblem(w, problem(http.StatusForbidden,
				"the admin API is on the unix socket in the data directory; over TCP it needs http.admin_token_file"))
			return
		}
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		// Digests are compared, so that the time tells neither content nor length.
		sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], s.token[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="sealpost admin"`) // RFC 6750 3
			writeProblem(w, problem(http.StatusUnauthorized, "the admin API needs the token of http.admin_token_file"))
			return
		}
		next.ServeHTTP(w, r)
	})
}
