package httpapi

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// Auditor is what the admin API needs of the journal. *queue.Queue is one.
type Auditor interface {
	Audit(ctx context.Context, f queue.AuditFilter, fn func(queue.AuditLine) error) error
}

// audit streams what became of recipients.
func (s *Server) audit(w http.ResponseWriter, r *http.Request) {
	f, err := parseAudit(r.URL.Query())
	if err != nil {
		writeProblem(w, problem(http.StatusBadRequest, err.Error()))
		return
	}
	auditor, ok := s.o.Queue.(Auditor)
	if !ok {
		writeProblem(w, notAvailable("an audit"))
		return
	}
	// The limit is the client's patience: a filter may pass over millions of entries before
	// the first line.
	if err := patient(http.NewResponseController(w), time.Time{}); err != nil {
		s.fail(w, r, err)
		return
	}
	out, n := newStream(w), 0
	err = auditor.Audit(r.Context(), f, func(l queue.AuditLine) error { n++; return out.write(l) })
	s.log.Info("audit: operator's question", "by", by(r), "lines", n)
	// Reading addresses is worth an entry: by whom, how many, about what as far as it is no address.
	note := queue.OperatorAction{Verb: "audit", By: by(r), Target: auditTarget(f), Done: n}
	if err != nil {
		note.Failed = "not to the end"
	}
	if e := s.o.Queue.Note(context.WithoutCancel(r.Context()), note); e != nil {
		s.log.Error("audit: the journal could not be written", "error", e)
	}
	s.end(w, r, out, err)
}

// auditTarget is what an audit was about, without addresses: the journal keeps it when a
// person is erased.
func auditTarget(f queue.AuditFilter) string {
	f.Sender, f.Recipient = "", ""
	return strings.ReplaceAll(auditQuery(&f).Encode(), "&", " ")
}

// parseAudit reads a filter from a query.
func parseAudit(q url.Values) (f queue.AuditFilter, err error) {
	if err := onlyKeys(q, "below", "since", "until", "domain", "sender", "recipient", "credential", "stream", "outcome", "limit"); err != nil {
		return f, err
	}
	f = queue.AuditFilter{
		Domain: q.Get("domain"), Sender: q.Get("sender"), Recipient: q.Get("recipient"), Credential: q.Get("credential"), Stream: q.Get("stream"),
	}
	if q.Has("below") {
		if f.Below, err = policy.ParseLevel(q.Get("below")); err != nil {
			return f, fmt.Errorf("below: %w", err)
		}
	}
	if q.Has("outcome") {
		f.Outcomes = strings.Split(q.Get("outcome"), ",")
	}
	for key, into := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if q.Has(key) {
			if *into, err = time.Parse(time.RFC3339Nano, q.Get(key)); err != nil {
				return f, fmt.Errorf("%s %.80q is no time: use the form of RFC 3339", key, q.Get(key))
			}
		}
	}
	f.Limit, err = parseLimit(q.Get("limit"))
	return f, err
}

// auditQuery writes what parseAudit reads.
func auditQuery(f *queue.AuditFilter) url.Values {
	q := url.Values{}
	for key, value := range map[string]string{
		"domain": f.Domain, "sender": f.Sender, "recipient": f.Recipient, "credential": f.Credential, "stream": f.Stream,
		"outcome": strings.Join(f.Outcomes, ","),
	} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if f.Below != policy.Unset {
		q.Set("below", f.Below.String())
	}
	for key, t := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !t.IsZero() {
			q.Set(key, t.Format(time.RFC3339Nano))
		}
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return q
}

// Audit calls fn for what became of each recipient that matches, as they come.
func (c *Client) Audit(ctx context.Context, f queue.AuditFilter, fn func(queue.AuditLine) error) error {
	return each(ctx, c, "/admin/audit?"+auditQuery(&f).Encode(), fn)
}

// verify checks the chain of the journal and answers with a queue.Proof.
func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	o, err := parseVerify(r.URL.Query())
	if err != nil {
		writeProblem(w, problem(http.StatusBadRequest, err.Error()))
		return
	}
	if s.o.Journal == nil {
		writeProblem(w, notAvailable("the check of the journal"))
		return
	}
	// A large journal takes its time: the limit is the client's patience.
	if err := patient(http.NewResponseController(w), time.Time{}); err != nil {
		s.fail(w, r, err)
		return
	}
	p, err := s.o.Journal.Verify(r.Context(), o)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if !p.Fine() {
		s.log.Error("journal: its chain is broken", "where", p.Breaks[0].String(), "breaks", len(p.Breaks)+p.More)
	}
	writeJSON(w, p)
}

func parseVerify(q url.Values) (o queue.VerifyOptions, err error) {
	for _, text := range q["key"] {
		key, err := hex.DecodeString(text)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return o, fmt.Errorf("key %.80q: use the 64 hexadecimal digits of an Ed25519 key", text)
		}
		o.Keys = append(o.Keys, key)
	}
	q.Del("key")
	if err := onlyKeys(q, "head"); err != nil {
		return o, err
	}
	if q.Has("head") {
		note, err := queue.ParseNote(q.Get("head"))
		if err != nil {
			return o, err
		}
		o.Note = &note
	}
	return o, nil
}

// VerifyJournal has the relay check the chain of its journal.
func (c *Client) VerifyJournal(ctx context.Context, o queue.VerifyOptions) (p queue.Proof, err error) {
	q := url.Values{}
	for _, k := range o.Keys {
		q.Add("key", hex.EncodeToString(k))
	}
	if o.Note != nil {
		q.Set("head", o.Note.String())
	}
	body, err := c.do(ctx, http.MethodGet, "/admin/audit/verify?"+q.Encode())
	if err != nil {
		return p, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&p); err != nil {
		return p, fmt.Errorf("the relay's answer cannot be read: %w", err)
	}
	return p, nil
}
