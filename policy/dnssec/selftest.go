package dnssec

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// Selftest asks every resolver for the signed and the bogus name, past the cache, and
// returns nil when DNSSEC works: secure answers can be believed. The first verdict and
// each change of it are logged, with what is to be done.
func (r *Resolver) Selftest(ctx context.Context) error {
	alive, err := r.probe(ctx)
	if err != nil && ctx.Err() != nil {
		return err // we were interrupted: it says nothing of the resolver
	}
	r.judge(err)
	if alive {
		r.witness(answered)
	}
	return err
}

// judge takes a verdict over.
func (r *Resolver) judge(err error) {
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
	case first || !t.good:
		t.why = ""
		r.log.Info("DNSSEC is available: the self-test went well")
	}
	if err == nil && !first && !t.good {
		// What was learned meanwhile is insecure only because nobody validated it: kept on,
		// it would take DANE away from its domains for as long as its TTL.
		r.epoch.Add(1)
		r.cache.flush()
	}
	t.good = err == nil
}

// probe tests every server, for each of them may be the next to be asked: one that does
// not validate makes secure answers insecure ones. A server that does not answer is no
// harm while another one does. It reports also whether any has answered at all.
func (r *Resolver) probe(ctx context.Context) (alive bool, _ error) {
	if !slices.ContainsFunc(r.servers, func(u *upstream) bool { return u.trusted }) {
		return false, errors.New("no resolver is trusted: use one on loopback or over TLS, or set trust_ad to always")
	}
	ctx, cancel := context.WithTimeout(ctx, r.deadline)
	defer cancel()
	type verdict struct {
		works bool
		err   error
	}
	all := make(chan verdict, len(r.servers))
	for _, u := range r.servers {
		go func() {
			works, err := r.probeServer(ctx, u)
			all <- verdict{works, err}
		}()
	}
	good := false
	var faults, troubles []string
	for range r.servers {
		v := <-all
		alive = alive || v.works
		switch {
		case v.err == nil:
			good = true
		case v.works:
			faults = append(faults, v.err.Error())
		default:
			troubles = append(troubles, v.err.Error())
		}
	}
	if len(faults) == 0 && good {
		return true, nil
	}
	return alive, errors.New(strings.Join(append(faults, troubles...), "; and "))
}

// probeServer tests one server. It works when it has answered; the error says why it is not
// to be believed.
func (r *Resolver) probeServer(ctx context.Context, u *upstream) (works bool, err error) {
	signed := r.signed()
	switch p := r.insist(ctx, u, signed); {
	case p.Answer == policy.Unknown:
		return false, fmt.Errorf("the signed name %q cannot be resolved: %s; see that the resolver runs and reaches the root servers, "+
			"and where it says SERVFAIL, that its trust anchor and the clock are right", signed.name, p.Problem)
	case !p.Secure:
		mend := ""
		if signed.name != "." {
			mend = ", or the name is not signed"
		}
		return true, fmt.Errorf("the signed name %q came back from %s without the AD bit: that resolver does not validate%s; "+
			"use one that does, such as unbound with an auto-trust-anchor-file on 127.0.0.1", signed.name, u.Addr, mend)
	}
	if r.test.names.Bogus == "" {
		return true, nil
	}
	bogus := question{dns.CanonicalName(r.test.names.Bogus), dns.TypeA}
	switch p := r.insist(ctx, u, bogus); {
	case p.Answer != policy.Unknown:
		return true, fmt.Errorf("the bogus name %q came back from %s with an answer (%s): that resolver lets wrong signatures pass; "+
			"see that its validation is on and not permissive (unbound: val-permissive-mode: no)", bogus.name, u.Addr, p.Answer)
	// It must fail because it is bogus: a resolver that is silent has proved nothing.
	case p.outcome != "servfail":
		return false, fmt.Errorf("the bogus name %q: %s; it must end in SERVFAIL", bogus.name, p.Problem)
	}
	return true, nil
}

// insist asks one server, and again while it is silent.
func (r *Resolver) insist(ctx context.Context, u *upstream, q question) (p partial) {
	for range maxRounds {
		if p = r.query(ctx, u, q); p.outcome != "timeout" || ctx.Err() != nil {
			break
		}
	}
	return p
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
