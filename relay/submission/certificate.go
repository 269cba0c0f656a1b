package submission

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// certificate is a chain and key from two files, read again when they change. A bad
// new pair is logged and the old one stays in use.
type certificate struct {
	listener          string
	certFile, keyFile string
	log               *slog.Logger
	observer          Observer

	current atomic.Pointer[tls.Certificate]
	looked  atomic.Int64 // when the files were last looked at, Unix nanoseconds

	mu    sync.Mutex // held while reading; guards stamp
	stamp [2]stamp   // of the files as last read, well or not
}

// stamp tells one state of a file from another.
type stamp struct {
	at   time.Time
	size int64
}

const lookEvery = time.Second

// newCertificate reads the pair for the first time; then an error is final.
func newCertificate(l *Listener, log *slog.Logger, o Observer) (*certificate, error) {
	c := &certificate{listener: l.name(), certFile: l.CertFile, keyFile: l.KeyFile, log: log, observer: o}
	if l.Certificate != nil {
		c.certFile = ""
		c.use(l.Certificate)
		return c, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c, c.read()
}

// get is for tls.Config.GetCertificate. It looks at the files at most once a second.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := time.Now().UnixNano()
	last := c.looked.Load()
	if now-last >= int64(lookEvery) && c.looked.CompareAndSwap(last, now) {
		c.reload()
	}
	return c.current.Load(), nil
}

// reload reads the files again if they changed since they were last read.
func (c *certificate) reload() {
	if c.certFile == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stamp == c.stamps() {
		return
	}
	if err := c.read(); err != nil {
		c.log.Error("new certificate not usable, the old one stays in use", "listener", c.listener, "err", err)
		return
	}
	c.log.Info("certificate reloaded", "listener", c.listener, "not_after", c.current.Load().Leaf.NotAfter)
}

func (c *certificate) stamps() (s [2]stamp) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			s[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

func (c *certificate) read() error {
	c.stamp = c.stamps()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("submission: certificate of listener %s: %w", c.listener, err)
	}
	c.use(&pair)
	return nil
}

func (c *certificate) use(pair *tls.Certificate) {
	if pair.Leaf == nil {
		if leaf, err := x509.ParseCertificate(pair.Certificate[0]); err == nil {
			own := *pair
			own.Leaf = leaf
			pair = &own
		}
	}
	c.current.Store(pair)
	if pair.Leaf != nil {
		c.observer.CertificateLoaded(c.listener, pair.Leaf.NotAfter)
	}
}

// serverTLS is what we offer: TLS 1.2 and 1.3, forward secrecy and AEAD only (RFC
// 8314 4.1, RFC 9325 4.2), hybrid post-quantum key exchange first.
func serverTLS(c *certificate) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: c.get,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		// Go's ticket keys live for days, and with them what forward secrecy protects (RFC
		// 9325 4.3.1). Connections are long here; resumption would save little.
		SessionTicketsDisabled: true,
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384},
	}
}
