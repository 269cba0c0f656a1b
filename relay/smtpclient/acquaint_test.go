package smtpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/policy/policytest"
)

// slowly has the provider's handshakes for a name wait until goOn is closed, and then fail with
// err; came counts them.
func (v *provider) slowly(name string, goOn <-chan struct{}, came chan<- struct{}, err error) {
	shown := v.tls.GetCertificate
	v.tls.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if h.ServerName == name {
			came <- struct{}{}
			<-goOn
			if err != nil {
				return nil, err
			}
		}
		return shown(h)
	}
}

// atHost is how many connections stand or are being made at the provider, and how many wait.
func (v *provider) atHost() (open, waiters int) {
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	for _, h := range v.p.hosts {
		open, waiters = open+h.open, waiters+len(h.waiters)
	}
	return open, waiters
}

// Many first deliveries to a name at a time: where other names have shown a face, all but one wait for what
// this one's first connection shows; elsewhere each opens its own.
func TestAcquaint(t *testing.T) {
	t.Parallel()
	const first = 6
	for _, tt := range []struct {
		name  string
		known bool  // another name's connection is there
		err   error // of the name's handshakes
		limit int
		opens int // handshakes for the name that began before any has ended
		after int // and in all, when everybody has been served
	}{
		{"another name has shown its face", true, nil, 20, 1, 1},
		{"all places are taken", true, nil, 2, 1, 1},
		{"nobody else is there", false, nil, 20, first, first},
		{"the first one fails", true, errors.New("no certificate for this name"), 20, 1, first},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := newProvider(t, "PIPELINING", func(o *Options) { o.ConnectionsPerHost, o.Window = tt.limit, 1 })
			leaf := v.ca.Leaf(policytest.LeafOptions{Names: []string{"*.mx.test"}})
			v.show(string(nameA), leaf)
			v.show(string(nameB), leaf)
			goOn, came := make(chan struct{}), make(chan struct{}, 100)
			v.slowly(string(nameB), goOn, came, tt.err)
			if tt.known {
				v.meet(t, v.step(nameA), false)
			}
			var all sync.WaitGroup
			for range first {
				all.Go(func() {
					s, _, f := v.p.Open(t.Context(), v.step(nameB))
					if (f != nil) != (tt.err != nil) {
						t.Errorf("failure %v", f)
					}
					if f == nil {
						s.Release()
					}
				})
			}
			for range tt.opens {
				<-came
			}
			want := min(tt.limit, tt.opens)
			if tt.known {
				want++
			}
			until(t, "everybody opens or waits", func() bool {
				open, waiters := v.atHost()
				return open == want && waiters == first-tt.opens
			})
			if n := len(came); n > 0 {
				t.Errorf("%d more handshakes than %d", n, tt.opens)
			}
			close(goOn)
			all.Wait()
			if n := len(came) + tt.opens; n != tt.after {
				t.Errorf("%d handshakes, want %d", n, tt.after)
			}
			for _, h := range v.p.hosts {
				if len(h.making) > 0 || len(h.waiters) > 0 {
					t.Errorf("%d are being made, %d wait, when all is done", len(h.making), len(h.waiters))
				}
			}
		})
	}
}

// Who stops waiting for a name's first connection leaves the line, and the connection is not disturbed.
func TestAcquaintGivenUp(t *testing.T) {
	t.Parallel()
	v := newProvider(t, "PIPELINING", nil)
	leaf := v.ca.Leaf(policytest.LeafOptions{Names: []string{"*.mx.test"}})
	v.show(string(nameA), leaf)
	v.show(string(nameB), leaf)
	goOn, came := make(chan struct{}), make(chan struct{}, 100)
	v.slowly(string(nameB), goOn, came, nil)
	v.meet(t, v.step(nameA), false)
	failures := make(chan *policy.Failure, 2)
	open := func(ctx context.Context) {
		s, _, f := v.p.Open(ctx, v.step(nameB))
		if f == nil {
			s.Release()
		}
		failures <- f
	}
	go open(t.Context())
	<-came
	ctx, cancel := context.WithCancel(t.Context())
	go open(ctx)
	until(t, "the second waits", func() bool { _, n := v.atHost(); return n == 1 })
	cancel()
	if f := <-failures; f == nil || f.Reason != policy.Interrupted {
		t.Errorf("who gave up: %v", f)
	}
	if open, waiters := v.atHost(); open != 2 || waiters != 0 {
		t.Errorf("%d are open, %d wait", open, waiters)
	}
	close(goOn)
	if f := <-failures; f != nil {
		t.Errorf("who was first: %v", f)
	}
}
