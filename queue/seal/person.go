package seal

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/queue"
)

// What the erasure of a person needs of a sealed journal. Each entry is sealed by a leaf of
// its day's tree (queue.Item.Key names it), which most entries of a message share.

var _ queue.Eraser = (*Store)(nil)

// leafKey names the leaf of an entry for Retire and EraseEntries.
func leafKey(day uint64, name string) string { return strconv.FormatUint(day, 10) + "/" + name }

// parseLeafKeys reads leaf keys, by day.
func parseLeafKeys(keys []string) (map[uint64][]uint64, error) {
	leaves := make(map[uint64][]uint64)
	for _, k := range keys {
		day, name, ok := strings.Cut(k, "/")
		n, err := strconv.ParseUint(day, 10, 64)
		if !ok || err != nil || name == "" {
			return nil, fmt.Errorf("seal: %.80q is no key of a journal entry", k)
		}
		leaves[n] = append(leaves[n], leafOf(name))
	}
	return leaves, nil
}

// anonymous makes the name of a leaf for entries that are under no message.
func anonymous() string { return hidden + base64.RawURLEncoding.EncodeToString(random(16)) }

// Retire has no further entry sealed by the given keys. When it returns nil, those that
// were are in the store.
func (s *Store) Retire(ctx context.Context, keys []string) error {
	if _, err := parseLeafKeys(keys); err != nil {
		return err
	}
	s.ring.mu.Lock()
	for _, k := range keys {
		s.ring.retired[k] = struct{}{}
	}
	s.ring.mu.Unlock()
	return s.settled(ctx)
}

// EraseEntries destroys at once the keys of journal entries, and those of all messages that
// are gone. It returns the number of the epoch that begins with it.
func (s *Store) EraseEntries(ctx context.Context, keys []string) (uint64, error) {
	leaves, err := parseLeafKeys(keys)
	if err != nil {
		return 0, err
	}
	if err := s.loseLeaves(leaves); err != nil {
		return 0, err
	}
	s.ring.mu.Lock()
	for _, k := range keys {
		delete(s.ring.retired, k)
	}
	s.ring.mu.Unlock()
	if _, err := s.destroyGone(ctx); err != nil {
		return 0, err
	}
	s.ring.mu.Lock()
	defer s.ring.mu.Unlock()
	return s.ring.current.id, nil
}

func (s *Store) loseLeaves(leaves map[uint64][]uint64) error {
	s.ring.work.Lock()
	defer s.ring.work.Unlock()
	_, err := s.ring.lose(leaves)
	return err
}

// Mark is a keyed hash of a text: equal for equal texts, for as long as the store lasts.
func (s *Store) Mark(text string) string { return s.names.name("mark\x00", text) }
