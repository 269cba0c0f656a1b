package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/pebblestore"
)

// spaceFresh is how long a look at the disk is good for: far shorter than it takes
// to fill the reserve of queue.min_free.
const spaceFresh = time.Second

// space watches the free space of the data directory: below queue.min_free new mail
// gets 452 4.3.1, deliveries go on.
type space struct {
	dir string
	// spent reports that the disk was full and the store gave its reserve up; nil: never.
	spent func() bool
	log   *slog.Logger // is told when intake pauses and when it goes on; nil: nobody is
	// makeRoom has the store give back what it can; nil: nobody does.
	makeRoom func()

	mu      sync.Mutex
	minimum uint64
	at      time.Time
	free    uint64
	err     error
	shut    bool // by what the log was told last
}

func newSpace(cfg *config.Config) *space {
	return &space{dir: cfg.Server.DataDir, minimum: uint64(cfg.Queue.MinFree)}
}

func (s *space) setMinimum(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.minimum = uint64(n)
}

func (s *space) look() (free, minimum uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.at) >= spaceFresh {
		s.free, s.err = pebblestore.FreeBytes(s.dir)
		s.at = now
	}
	return s.free, s.minimum, s.err
}

// gate refuses a draft when the disk is too full, or cannot be asked.
func (s *space) gate() error {
	err := s.judge()
	s.tell(err)
	return err
}

// tell has the log say when intake pauses and when it goes on.
func (s *space) tell(err error) {
	s.mu.Lock()
	changed := s.shut != (err != nil)
	s.shut = err != nil
	s.mu.Unlock()
	switch {
	case !changed || s.log == nil:
	case err != nil:
		s.log.Warn("intake pauses: new mail is put off with 452 4.3.1 until there is room; deliveries go on", "why", err)
	default:
		s.log.Info("intake goes on: there is room again")
	}
}

func (s *space) judge() error {
	free, minimum, err := s.look()
	if err != nil {
		return errors.Join(queue.ErrFull, err)
	}
	if s.spent != nil && s.spent() {
		if s.makeRoom != nil {
			s.makeRoom()
		}
		return fmt.Errorf("%w: %d octets are free and the store's reserve is used up", queue.ErrFull, free)
	}
	if free < minimum {
		if s.makeRoom != nil {
			s.makeRoom() // what was delivered meanwhile
		}
		return fmt.Errorf("%w: %d octets are free, queue.min_free is %d", queue.ErrFull, free, minimum)
	}
	return nil
}

func (s *space) full() bool { return s.gate() != nil }

func (s *space) freeBytes() uint64 {
	free, _, _ := s.look() // unknown is 0 in the metric
	return free
}

// check is gate for /readyz.
func (s *space) check(context.Context) error { return s.gate() }
