package queue

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// On a disk that is nearly full (Options.Short) a delivery makes room, and a try that fails takes
// some: its entry in the journal and the envelope's new state. Thousands of them, as when a host
// does not answer, would take what is left, and then nothing can be written any more, not
// even what makes room. So they are rationed.
const (
	leanStart = 32               // failed tries that are allowed when the disk becomes full
	leanMost  = 64               // and at most
	leanGain  = 2                // more for each envelope that is done
	leanEvery = 10 * time.Second // and one more in so much time

	crowdedLook = 200 * time.Millisecond // between two looks at a disk that is crowded (Options.Crowded)
	crowdedMost = 5 * time.Second        // that a batch of an order waits for it
)

// lean is the ration of failed tries. The zero value is that of a disk with room.
type lean struct {
	mu    sync.Mutex
	left  int       // failed tries that may still be made
	at    time.Time // to when time has given its share; zero: the disk has room
	older int       // envelopes that flew before the disk was full: they count for nothing, or hosts that hang would hold up the others
}

// allow is how many tries may begin now, of most at once, while flying are on their way. next is
// when that may have changed by itself.
func (l *lean) allow(now time.Time, most, flying int) (n int, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.at.IsZero(): // the disk has just become full
		l.at, l.left, l.older = now, leanStart, flying
	case now.Before(l.at): // the clock was set back
		l.at = now
	}
	l.older = min(l.older, flying)
	if gained := now.Sub(l.at) / leanEvery; gained > 0 {
		l.left = min(l.left+int(min(gained, leanMost)), leanMost)
		l.at = l.at.Add(gained * leanEvery)
	}
	n = min(most, l.left) - (flying - l.older)
	return max(n, 0), l.at.Add(leanEvery)
}

// landed counts an envelope whose lease has ended.
func (l *lean) landed(done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if done {
		l.left = min(l.left+leanGain, leanMost)
	} else {
		l.left = max(l.left-1, 0)
	}
}

// over is for a disk that has room again.
func (l *lean) over() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at, l.left = time.Time{}, 0
}

// uncrowded waits until an order may write, for it writes as much as tries do. Only one that makes room
// may have the last of it. ErrFull when there is too little in the end.
func (q *Queue) uncrowded(ctx context.Context, v Verb) error {
	if v == VerbRetry && q.o.Short != nil && q.o.Short() {
		// It would write each row anew, and have them tried out of their order, so that no table is
		// done with for long. They come by themselves.
		return fmt.Errorf("%w to try mail before its time", ErrFull)
	}
	if q.o.Crowded == nil {
		return nil
	}
	for until := time.Now().Add(crowdedMost); q.o.Crowded(v != VerbDrop); {
		if time.Now().After(until) {
			return fmt.Errorf("%w for that: nothing more is changed, deliveries go on", ErrFull)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(crowdedLook):
		}
	}
	return nil
}
