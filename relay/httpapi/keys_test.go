package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeKeys are given keys.
type fakeKeys struct {
	list []Key
	err  error // of Rotate
}

func (f *fakeKeys) List() []Key { return f.list }

func (f *fakeKeys) Rotate() (Key, error) {
	f.list[0].ID++
	return f.list[0], f.err
}

func TestKeysRoundTrip(t *testing.T) {
	t.Parallel()
	at := time.Unix(1e9, 0).UTC()
	f := &fakeKeys{list: []Key{{Kind: "kek", ID: 1, Created: at, Active: true}, {Kind: "root", ID: 1, Created: at, KEK: 1}}}
	c := onSocket(t, New(Options{Keys: f}))
	list := func() (list []Key) {
		if err := c.Keys(t.Context(), func(k Key) error { list = append(list, k); return nil }); err != nil {
			t.Error(err)
		}
		return list
	}
	if got := list(); !slices.Equal(got, f.list) {
		t.Errorf("keys %+v, want %+v", got, f.list)
	}
	if k, err := c.RotateKeys(t.Context()); err != nil || k != f.list[0] || k.ID != 2 {
		t.Errorf("rotated to %+v, %v", k, err)
	}
	f.err = errors.New("kek-3.0.key: no space left on device")
	var p *Problem
	if _, err := c.RotateKeys(t.Context()); !errors.As(err, &p) || p.Status != http.StatusInternalServerError {
		t.Errorf("a rotation that failed: %v", err)
	}
	// Who rotated, and that it failed, is in the journal.
	q, _ := handed(t, 1, "one.example")
	c = onSocket(t, New(Options{Keys: f, Queue: q}))
	_, _ = c.RotateKeys(t.Context())
	if o := operator(t, q); o.Verb != "rotate-keys" || !strings.HasPrefix(o.By, "uid ") || o.Failed != f.err.Error() {
		t.Errorf("the journal has %+v", o)
	}
	f.err = nil
	k, err := c.RotateKeys(t.Context())
	if o := operator(t, q); err != nil || o.Failed != "" || o.Target != fmt.Sprintf("key-encryption key %d", k.ID) {
		t.Errorf("%+v, %v: the journal has %+v", k, err, o)
	}
	none := onSocket(t, New(Options{}))
	if _, err := none.RotateKeys(t.Context()); !errors.As(err, &p) || p.Status != http.StatusNotFound {
		t.Errorf("without encryption: %v", err)
	}
}
