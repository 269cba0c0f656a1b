package dnssec

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/policy"
)

const (
	testEvery = 5 * time.Minute  // while it goes well
	testAgain = 15 * time.Second // while it does not
)

// Selftest names what is asked to see whether DNSSEC works.
type Selftest struct {
	// Signed is a name that must be secure; empty: the root.
	Signed string
	// Bogus is a name whose signatures are known to be wrong: it must fail. Empty:
	// not asked.
	Bogus string
}

// selftest is the state of the self-test.
type selftest struct {
	names Selftest

	mu   sync.Mutex
	at   time.Time // of the last test; zero: none yet
	good bool
	why  string // it is unavailable, as logged last
}

// Selftest asks the resolvers for the signed and the bogus name, past the cache, and
// returns nil when DNSSEC works: secure answers can be believed. The first verdict and
// each change of it are logged.
func (r *Resolver) Selftest(ctx context.Context) error {
	err := r.probe(ctx)
	if err != nil && ctx.Err() != nil {
		return err // we were interrupted: it says nothing of the resolver
	}
	t := &r.test
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.at.IsZero()
	t.at = time.Now()
	switch {
	case err != nil && !first && !t.good:
		// Reasons alternate, with the name that failed first and the port of the
		// query: an operator is told of the change of state, not of each of them.
		if t.why != err.Error() {
			t.why = err.Error()
			r.log.Debug("DNSSEC is still unavailable", "reason", t.why)
		}
	case err != nil:
		t.why = err.Error()
		r.log.Warn("DNSSEC is unavailable: no DANE level will be claimed", "reason", t.why)
	case err == nil && (first || !t.good):
		t.why = ""
		r.log.Info("DNSSEC is available: the self-test went well")
	}
	t.good = err == nil
	return err
}

func (r *Resolver) probe(ctx context.Context) error {
	trusted := false
	for _, u := range r.servers {
		trusted = trusted || u.trusted
	}
	if !trusted {
		return errors.New("no resolver is trusted: use one on loopback or over TLS, or set trust_ad to always")
	}
	ctx, cancel := context.WithTimeout(ctx, r.deadline)
	defer cancel()
	signed := question{dns.CanonicalName(r.test.names.Signed), dns.TypeSOA}
	if a := r.ask(ctx, signed); a.Answer == policy.Unknown {
		return fmt.Errorf("the signed name %q: %s", signed.name, a.Problem)
	} else if !a.Secure {
		return fmt.Errorf("the signed name %q came back without the AD bit: the resolver does not validate", signed.name)
	}
	if r.test.names.Bogus == "" {
		return nil
	}
	bogus := question{dns.CanonicalName(r.test.names.Bogus), dns.TypeA}
	a := r.ask(ctx, bogus)
	if a.Answer != policy.Unknown {
		return fmt.Errorf("the bogus name %q came back with an answer (%s): the resolver does not validate", bogus.name, a.Answer)
	}
	// It must fail because it is bogus: a resolver that is silent has proved nothing.
	if !strings.Contains(a.Problem, "SERVFAIL") {
		return fmt.Errorf("the bogus name %q: %s", bogus.name, a.Problem)
	}
	return nil
}

// Available reports what the last self-test said; false before the first one.
func (r *Resolver) Available() bool {
	r.test.mu.Lock()
	defer r.test.mu.Unlock()
	return r.test.good
}

// Believed reports whether secure answers can be believed now, and sees to it that
// the self-test is repeated: the first caller and those beside it wait for the first
// test; later ones get the last verdict, while a new test runs when that is old.
func (r *Resolver) Believed(ctx context.Context) bool {
	last := r.verdict()
	if last.fresh || !r.enter() {
		return last.good
	}
	defer r.wg.Done()
	shared := r.flights.DoChan("self-test", func() (any, error) {
		if !r.enter() {
			return false, nil
		}
		defer r.wg.Done()
		return r.Selftest(r.lifetime) == nil, nil
	})
	if last.tested {
		return last.good
	}
	select {
	case got := <-shared:
		return got.Val.(bool)
	case <-ctx.Done():
		return false
	}
}

// verdict is what the last self-test said, whether there was one, and whether it is
// recent enough.
type verdict struct{ good, tested, fresh bool }

func (r *Resolver) verdict() verdict {
	t := &r.test
	t.mu.Lock()
	defer t.mu.Unlock()
	age := testAgain
	if t.good {
		age = testEvery
	}
	tested := !t.at.IsZero()
	return verdict{t.good, tested, tested && time.Since(t.at) < age}
}

// Watch repeats the self-test until ctx ends, so that the gauge is true also when
// no mail goes out.
func (r *Resolver) Watch(ctx context.Context) {
	for {
		_ = r.Selftest(ctx) // it has logged what it found
		wait := testAgain
		if r.Available() {
			wait = testEvery
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}
