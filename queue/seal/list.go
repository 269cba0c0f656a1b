package seal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Key is a key file, for `sealpost keys list`.
type Key struct {
	Kind    string    `json:"kind"` // kek, root, epoch, carry, journal
	ID      uint64    `json:"id"`
	Created time.Time `json:"created"`
	KEK     uint64    `json:"kek,omitempty"` // that wraps it
	Active  bool      `json:"active,omitempty"`
}

func (m *meta) key(active bool) Key {
	return Key{Kind: m.kind.String(), ID: m.id, Created: m.created, KEK: m.kek, Active: active}
}

// List returns the keys, key-encryption keys first, each kind by ID.
func (r *Ring) List() []Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Key
	for _, k := range r.keks {
		list = append(list, k.key(k.id == r.active))
	}
	if r.root != nil {
		list = append(list, r.root.key(true))
	}
	for _, e := range r.epochs {
		list = append(list, e.key(e == r.current))
	}
	for i, c := range r.carries {
		list = append(list, c.key(i == 0))
	}
	for _, d := range r.days {
		list = append(list, d.key(false))
	}
	sortKeys(list)
	return list
}

func sortKeys(list []Key) {
	order := kindWords()
	slices.SortFunc(list, func(a, b Key) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(a.ID, b.ID))
	})
}

// ListDir returns the keys in a directory without opening the ring, for
// `sealpost keys list` beside a server that runs or not. It changes nothing.
func ListDir(dir string) ([]Key, error) {
	d := &keyDir{disk: realDisk{}, path: dir}
	names, err := d.disk.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("seal: key directory: %w", err)
	}
	var list []Key
	var active uint64
	for _, name := range names {
		if !strings.HasSuffix(name, suffixKey) {
			continue
		}
		content, err := d.read(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // destroyed meanwhile
		}
		if err != nil {
			return nil, err
		}
		m, err := decodeMeta(content)
		clear(content)
		if err != nil {
			return nil, fmt.Errorf("seal: key file %s: %w", d.at(name), err)
		}
		if m.kind == kindKEK {
			active = max(active, m.id)
		}
		list = append(list, m.key(false))
	}
	for i := range list {
		list[i].Active = list[i].Kind == kindKEK.String() && list[i].ID == active
	}
	sortKeys(list)
	return list, nil
}
