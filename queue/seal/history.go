package seal

import (
	"time"

	"github.com/sealpost/sealpost/queue"
)

var _ queue.Historian = (*Store)(nil)

// JournalAt is that of the store behind; "" when it cannot tell.
func (s *Store) JournalAt(t time.Time) string {
	if h, ok := s.inner.(queue.Historian); ok {
		return h.JournalAt(t)
	}
	return ""
}

// Missed is that of the store behind; 0 when it cannot tell.
func (s *Store) Missed(pos string) uint64 {
	if h, ok := s.inner.(queue.Historian); ok {
		return h.Missed(pos)
	}
	return 0
}
