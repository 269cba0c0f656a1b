package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

// explainLimit is for all lookups of a domain and a probe of its hosts.
const explainLimit = 90 * time.Second

// Explainer reasons about a delivery that nobody has begun. *relay.Courier is one.
type Explainer interface {
	Explain(ctx context.Context, q relay.Inquiry) (relay.Explanation, error)
}

var _ Explainer = (*relay.Courier)(nil)

// explain answers with a relay.Explanation.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	q, err := parseInquiry(r.URL.Query())
	if err != nil {
		writeProblem(w, problem(http.StatusBadRequest, err.Error()))
		return
	}
	if s.o.Explainer == nil {
		writeProblem(w, problem(http.StatusNotFound, "explanations are not available here"))
		return
	}
	if err := patient(http.NewResponseController(w), time.Now().Add(explainLimit)); err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), explainLimit)
	defer cancel()
	x, err := s.o.Explainer.Explain(ctx, q)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.log.Info("explain: operator's question", "domain", string(q.Domain), "probe", q.Probe)
	writeJSON(w, x)
}

// parseInquiry reads an inquiry from a query. It takes domains only: who has an address
// cuts its local part off before.
func parseInquiry(v url.Values) (q relay.Inquiry, err error) {
	if err = onlyKeys(v, "domain", "sender", "null_sender", "credential", "stream", "min_level", "account", "require_tls", "probe"); err != nil {
		return q, err
	}
	if q.Domain, err = queue.ParseDomain(v.Get("domain")); err != nil {
		return q, fmt.Errorf("domain: %w", err)
	}
	if v.Has("sender") {
		sender, err := queue.ParseDomain(v.Get("sender"))
		if err != nil {
			return q, fmt.Errorf("sender: %w", err)
		}
		q.Sender = string(sender)
	}
	for _, l := range []struct {
		key  string
		into *policy.Level
	}{{"min_level", &q.Message}, {"account", &q.Account}} {
		if v.Has(l.key) {
			if *l.into, err = policy.ParseLevel(v.Get(l.key)); err != nil {
				return q, fmt.Errorf("%s: %w", l.key, err)
			}
		}
	}
	for _, b := range []struct {
		key  string
		into *bool
	}{{"null_sender", &q.NullSender}, {"require_tls", &q.RequireTLS}, {"probe", &q.Probe}} {
		if *b.into, err = parseTruthOf(b.key, v.Get(b.key)); err != nil {
			return q, err
		}
	}
	q.Credential, q.Stream = v.Get("credential"), v.Get("stream")
	return q, nil
}

// inquiryQuery writes what parseInquiry reads.
func inquiryQuery(q *relay.Inquiry) url.Values {
	v := url.Values{}
	for key, value := range map[string]string{
		"domain": string(q.Domain), "sender": q.Sender, "credential": q.Credential, "stream": q.Stream,
	} {
		if value != "" {
			v.Set(key, value)
		}
	}
	for key, l := range map[string]policy.Level{"min_level": q.Message, "account": q.Account} {
		if l != policy.Unset {
			v.Set(key, l.String())
		}
	}
	for key, b := range map[string]bool{"null_sender": q.NullSender, "require_tls": q.RequireTLS, "probe": q.Probe} {
		if b {
			v.Set(key, strconv.FormatBool(b))
		}
	}
	return v
}

// Explain asks the relay how it would treat mail to q.Domain now. Of the query, the
// parts of [relay.Asked] go over.
func (c *Client) Explain(ctx context.Context, q relay.Inquiry) (relay.Explanation, error) {
	var x relay.Explanation
	body, err := c.do(ctx, http.MethodGet, "/admin/explain?"+inquiryQuery(&q).Encode())
	if err != nil {
		return x, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&x); err != nil {
		return x, fmt.Errorf("the relay's answer cannot be read: %w", err)
	}
	return x, nil
}
