package dnssec

import (
	"context"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/policy"
)

// FreshTXT is TXT past our own cache: for who must know what is published now, before
// an attempt is failed for what was published earlier (RFC 8461 5.1). The answer is kept.
func (r *Resolver) FreshTXT(ctx context.Context, name policy.Domain) Reply[string] {
	r.cache.forget(question{dns.CanonicalName(string(name)), dns.TypeTXT})
	return r.TXT(ctx, name)
}

// forget drops the answer to a question, if there is one.
func (c *cache) forget(q question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.entries[q]; el != nil {
		c.drop(el)
	}
}
