package httpapi

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/sealpost/sealpost/queue"
)

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
