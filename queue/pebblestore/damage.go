package pebblestore

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/sealpost/sealpost/queue"
)

// Bounds of what is remembered of damage.
const (
	damageList  = 100     // pieces of damage
	damageNames = 100     // messages of one piece
	damageSeen  = 100_000 // pieces that are not told twice
)

// Damage is something on disk that is not what was written there.
type Damage struct {
	File string // below Options.Dir
	What string // what is wrong and what was done about it
	// Mended: what was written is known, and nothing is lost.
	Mended bool
	// Messages are those that it is about, as far as that is known: at most a hundred.
	Messages []queue.ID
	More     int // further ones
}

// String says it in one line.
func (d Damage) String() string {
	s := d.File + ": " + d.What
	if len(d.Messages) > 0 {
		names := make([]string, len(d.Messages))
		for i, id := range d.Messages {
			names[i] = string(id)
		}
		s += "; messages: " + strings.Join(names, " ")
	}
	if d.More > 0 {
		s += fmt.Sprintf(" and %d more", d.More)
	}
	return s
}

// damages are all that were found since the store was opened.
type damages struct {
	mu   sync.Mutex
	list []Damage
	seen map[string]bool // by file and what, so that nothing is told twice
}

func newDamages() *damages { return &damages{seen: make(map[string]bool)} }

// note keeps and logs a piece of damage, once.
func (l logger) note(d Damage) {
	if len(d.Messages) > damageNames {
		d.More += len(d.Messages) - damageNames
		d.Messages = d.Messages[:damageNames]
	}
	l.damage.mu.Lock()
	key := d.File + "\x00" + d.What
	again := l.damage.seen[key] || len(l.damage.seen) >= damageSeen
	if !again {
		l.damage.seen[key] = true
		if len(l.damage.list) < damageList {
			l.damage.list = append(l.damage.list, d)
		}
	}
	l.damage.mu.Unlock()
	if again {
		return
	}
	level := slog.LevelError
	if d.Mended {
		level = slog.LevelWarn
	}
	l.slog.Log(context.Background(), level, "storage: damaged on disk: "+d.String(), "mended", d.Mended)
}

// Damage lists what was found to be damaged since the store was opened, oldest first: at
// most a hundred pieces. The log has all of them.
func (s *Store) Damage() []Damage {
	s.log.damage.mu.Lock()
	defer s.log.damage.mu.Unlock()
	return slices.Clone(s.log.damage.list)
}

// messageNames finds the IDs of messages in octets that cannot be read otherwise: they
// stand in the clear in the keys of records, rows and bodies.
func messageNames(b []byte) []queue.ID {
	var list []queue.ID
	for i := 0; i+1+idSize <= len(b); i++ {
		switch b[i] {
		case prefixMessage, prefixRow, prefixBody, prefixOrphan:
		default:
			continue
		}
		id, err := queue.ParseID(string(b[i+1 : i+1+idSize]))
		if err != nil || slices.Contains(list, id) {
			continue
		}
		list = append(list, id)
		if len(list) == damageNames {
			break
		}
		i += idSize
	}
	return list
}
