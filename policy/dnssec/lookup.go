package dnssec

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/policy"
)

// question is what is asked: a canonical name with the last dot, and a type.
type question struct {
	name  string
	qtype uint16
}

func (q question) String() string { return q.name + " " + dns.TypeToString[q.qtype] }

// asked is a question as a caller puts it.
type asked struct {
	name  policy.Domain
	qtype uint16
}

// lookup asks one question and makes typed records of the answer. A record that
// pick refuses makes the whole reply malformed, so Unknown: half an RRset is none.
func lookup[T any](ctx context.Context, r *Resolver, at asked, pick func(dns.RR) (T, bool)) Reply[T] {
	if at.name == "" { // the library would take it for the root
		return Reply[T]{Lookup: policy.Lookup{Problem: "no name to ask for"}}
	}
	a := r.resolve(ctx, question{dns.CanonicalName(string(at.name)), at.qtype}, func(a answer) answer { return typed(a, at.qtype, pick) })
	out := Reply[T]{Lookup: a.Lookup, Name: at.name, Chain: a.chain, TTL: a.ttl}
	if a.Answer == policy.Unknown {
		out.Name = ""
		return out
	}
	if len(a.chain) > 0 {
		out.Name = a.chain[len(a.chain)-1]
	}
	out.Records, _ = a.typed.([]T) // nil: an absence
	return out
}

// typed makes typed records of an answer once, for all who will get it.
func typed[T any](a answer, qtype uint16, pick func(dns.RR) (T, bool)) answer {
	if len(a.records) == 0 {
		return a
	}
	out := make([]T, 0, len(a.records))
	for _, rr := range a.records {
		v, ok := pick(rr)
		if !ok {
			return unknown("malformed " + dns.TypeToString[qtype] + " record in the reply")
		}
		out = append(out, v)
	}
	a.records, a.typed = nil, out
	return a
}

// answer is the result of a question, aliases followed.
type answer struct {
	policy.Lookup
	chain   []policy.Domain
	records []dns.RR // of the type asked for, at the end of the chain
	typed   any      // the same as the caller wants them; shared, nobody changes it
	ttl     time.Duration
}

func unknown(problem string) answer {
	return answer{Lookup: policy.Lookup{Problem: problem}}
}

// resolve answers from the cache, or joins the lookup that runs, or starts one. The
// shared lookup does not end with the caller who started it. During an outage only the
// cache answers.
func (r *Resolver) resolve(ctx context.Context, q question, finish func(answer) answer) answer {
	if a, ok := r.cache.get(q); ok {
		return a
	}
	if waiting, _ := r.Paused(); waiting {
		return unknown(downProblem)
	}
	if !r.enter() {
		return unknown("the resolver is closed")
	}
	defer r.wg.Done()
	shared := r.flights.DoChan(q.String(), func() (any, error) {
		if !r.enter() {
			return unknown("the resolver is closed"), nil
		}
		defer r.wg.Done()
		if a, ok := r.cache.get(q); ok { // a flight landed between our look and this one
			return a, nil
		}
		ctx, cancel := context.WithTimeout(r.lifetime, r.deadline)
		defer cancel()
		age := r.cache.age()
		a := finish(r.follow(ctx, q))
		r.cache.put(q, a, age)
		return a, nil
	})
	select {
	case got := <-shared:
		return got.Val.(answer)
	case <-ctx.Done():
		return unknown("no DNS answer for " + q.String() + " before " + ending(ctx.Err()))
	}
}

// enter counts a lookup in, unless the resolver is closed.
func (r *Resolver) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.wg.Add(1)
	return true
}

func ending(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "the deadline"
	}
	return "the lookup was cancelled"
}

// follow asks, and asks again at the end of an alias chain that the reply does not
// complete (RFC 7672 2.1.3). Secure holds for the whole chain or not at all.
func (r *Resolver) follow(ctx context.Context, q question) answer {
	sum := answer{Lookup: policy.Lookup{Secure: true}, ttl: maxTTL}
	at := q
	for {
		part := r.ask(ctx, at)
		if part.Answer == policy.Unknown {
			return part.answer
		}
		sum.Secure = sum.Secure && part.Secure
		sum.ttl = min(sum.ttl, part.ttl)
		sum.chain = append(sum.chain, part.chain...)
		if len(sum.chain) > MaxChain {
			return unknown(fmt.Sprintf("alias chain of more than %d links at %s", MaxChain, q.name))
		}
		if !part.open {
			sum.Answer, sum.records = part.Answer, part.records
			return sum
		}
		at.name = dns.CanonicalName(string(part.chain[len(part.chain)-1]))
		if at.name == q.name {
			return unknown("alias loop at " + q.name)
		}
	}
}

// tlsaOf reads a TLSA record (RFC 6698 2.1); whether it is usable is for the judge.
func tlsaOf(rr dns.RR) (policy.TLSARecord, bool) {
	t, ok := rr.(*dns.TLSA)
	if !ok {
		return policy.TLSARecord{}, false
	}
	data, err := hex.DecodeString(t.Certificate)
	return policy.TLSARecord{Usage: t.Usage, Selector: t.Selector, Matching: t.MatchingType, Data: data}, err == nil
}

// unescape undoes the presentation format (RFC 1035 5.1) in which the library hands
// out character strings: \DDD and \X.
func unescape(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 16); err == nil && n <= math.MaxUint8 {
				out = append(out, byte(n))
				i += 3
				continue
			}
		}
		i++
		out = append(out, s[i])
	}
	return string(out)
}
