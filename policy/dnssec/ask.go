package dnssec

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/policy"
)

const (
	maxRounds = 3                // times that a silent server is asked for one lookup
	sickFor   = 10 * time.Second // how long a silent server comes last
)

// ask asks the servers in turn until one has an answer or an absence. A server that
// has said that it cannot is not asked again; one that is silent is, while the
// deadline lasts. After each round the breaker hears of it.
func (r *Resolver) ask(ctx context.Context, q question) partial {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return failed("timeout", "no DNS query could be sent for "+q.String()+" before "+ending(ctx.Err()))
	}
	left := r.order(time.Now())
	var problems []string
	last, done := failed("timeout", ""), gone // of those that have said that they cannot
	for range maxRounds {
		var mute []*upstream
		heard := done
		for i, u := range left {
			p := r.query(ctx, u, q)
			h := hearingOf(p.outcome)
			if heard = min(heard, h); h == answered {
				r.hear(q.name, h)
				return p
			}
			last = p
			if !slices.Contains(problems, p.Problem) {
				problems = append(problems, p.Problem)
			}
			if h == silent {
				mute = append(mute, u)
			} else {
				done = min(done, h)
			}
			if ctx.Err() != nil && i+1 < len(left) {
				last.Problem = strings.Join(problems, "; ")
				return last // not all were asked: it says nothing of them
			}
		}
		r.hear(q.name, heard)
		if left = mute; len(left) == 0 || ctx.Err() != nil {
			break
		}
	}
	last.Problem = strings.Join(problems, "; ")
	return last
}

// order returns the servers as configured, those that were silent lately last.
func (r *Resolver) order(now time.Time) []*upstream {
	out := slices.Clone(r.servers)
	slices.SortStableFunc(out, func(a, b *upstream) int { return rank(a, now) - rank(b, now) })
	return out
}

func rank(u *upstream, now time.Time) int {
	if u.sick(now) {
		return 1
	}
	return 0
}

// query asks one server once, over UDP and where that is cut off over TCP.
func (r *Resolver) query(ctx context.Context, u *upstream, q question) partial {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	start := time.Now()
	m, err := u.exchange(ctx, q, true)
	if err == nil && m.Rcode == dns.RcodeFormatError && m.IsEdns0() == nil {
		m, err = u.exchange(ctx, q, false) // RFC 6891 7: a server from before EDNS
	}
	var p partial
	if err != nil {
		p = r.explain(ctx, q, err)
	} else {
		p = interpret(m, q, u.trusted)
	}
	u.mark(p.outcome == "timeout" || p.outcome == "unreachable", time.Now())
	if p.Answer == policy.Unknown {
		p.Problem += " from " + u.Addr.String()
		r.log.Debug("DNS query failed", "resolver", u.Addr.String(), "question", q.String(), "outcome", p.outcome, "problem", p.Problem)
	}
	if r.observer != nil {
		r.observer.Queried(p.outcome, time.Since(start))
	}
	return p
}

// explain turns an error of the wire into an unknown answer.
func (r *Resolver) explain(ctx context.Context, q question, err error) partial {
	var netErr net.Error
	switch {
	case r.lifetime.Err() != nil:
		return failed("unreachable", "the resolver was closed: no reply for "+q.String())
	case errors.Is(err, errMalformed):
		return failed("malformed", err.Error())
	case ctx.Err() != nil, errors.As(err, &netErr) && netErr.Timeout():
		problem := "no reply for " + q.String() + " in time"
		if errors.Is(err, errForeign) {
			problem += " but " + err.Error()
		}
		return failed("timeout", problem)
	default:
		return failed("unreachable", fmt.Sprintf("no reply for %s: %v", q, err))
	}
}
