package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Key is a key of the encryption at rest, as an operator sees it: never the key itself.
type Key struct {
	Kind    string    `json:"kind"` // kek, root, epoch, carry, journal
	ID      uint64    `json:"id"`
	Created time.Time `json:"created"`
	KEK     uint64    `json:"kek,omitempty"` // the key-encryption key that wraps it
	Active  bool      `json:"active,omitempty"`
}

// Keys is what the admin API needs of the keys. Rotate makes a new key-encryption key,
// which wraps all others when it returns; the old one is destroyed. Calls are concurrent.
type Keys interface {
	List() []Key
	Rotate() (Key, error)
}

// listKeys streams the keys.
func (s *Server) listKeys(w http.ResponseWriter, r *http.Request) {
	if s.o.Keys == nil {
		writeProblem(w, noKeys())
		return
	}
	out, err := newStream(w), error(nil)
	for _, k := range s.o.Keys.List() {
		if err = out.write(k); err != nil {
			break
		}
	}
	s.end(w, r, out, err)
}

// rotateKeys makes a new key-encryption key.
func (s *Server) rotateKeys(w http.ResponseWriter, r *http.Request) {
	if s.o.Keys == nil {
		writeProblem(w, noKeys())
		return
	}
	k, err := s.o.Keys.Rotate()
	note := RotationNote(by(r), k, err)
	if s.o.Queue != nil {
		if e := s.o.Queue.Note(context.WithoutCancel(r.Context()), note); e != nil {
			s.log.Error("http: journal", "error", e)
		}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.log.Info("keys: operator's hand", "verb", "rotate", "by", note.By, "kek", k.ID)
	writeJSON(w, k)
}

// RotationNote is what the journal keeps of a rotation: by whom, the new key-encryption key,
// and why there is none.
func RotationNote(by string, k Key, err error) queue.OperatorAction {
	note := queue.OperatorAction{Verb: "rotate-keys", By: by}
	if err != nil {
		note.Failed = err.Error()
	} else {
		note.Target = fmt.Sprintf("key-encryption key %d", k.ID)
	}
	return note
}

func noKeys() *Problem {
	return problem(http.StatusNotFound, "there are no keys: queue.encryption.enabled is false")
}

// Keys calls fn for each key of the relay.
func (c *Client) Keys(ctx context.Context, fn func(Key) error) error {
	return each(ctx, c, "/admin/keys", fn)
}

// RotateKeys has the relay make a new key-encryption key, and returns it.
func (c *Client) RotateKeys(ctx context.Context) (Key, error) {
	var k Key
	body, err := c.do(ctx, http.MethodPost, "/admin/keys/rotate")
	if err != nil {
		return k, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&k); err != nil {
		return k, fmt.Errorf("the relay's answer cannot be read: %w", err)
	}
	return k, nil
}
