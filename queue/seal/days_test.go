package seal

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// recalls is a store that knows where its journal is at a time: somewhere before.
type recalls struct{ *tape }

func (recalls) JournalAt(time.Time) string { return "" }
func (recalls) Missed(string) uint64       { return 0 }

// TestGoneDay removes the journal keys of one day after the other: each is named at the next
// start, and no other is.
func TestGoneDay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, p := newMemDisk(), newTape()
		start := func(d *memDisk, retention time.Duration) (*world, *Ring, []*Damage) {
			r := mustRing(t, RingOptions{Dir: "keys", disk: d, Retention: retention})
			var told damages
			w := &world{TB: t, ctx: t.Context(), s: mustNew(t, recalls{p}, r, Options{Damaged: told.add})}
			synctest.Wait()
			return w, r, told.take()
		}
		stop := func(w *world, r *Ring) {
			w.s.stop() // and not Close: the store behind goes on
			w.s.keeper.Wait()
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		w, r, told := start(d, 0)
		var days []string
		for range 4 {
			days = append(days, fmt.Sprint(dayNumber(time.Now())))
			w.insert("body", "a.example")
			time.Sleep(24 * time.Hour)
		}
		w.insert("body", "a.example")
		days = append(days, fmt.Sprint(dayNumber(time.Now())))
		stop(w, r)
		if len(told) > 0 {
			t.Fatal(told)
		}
		for _, day := range append(days, "none") {
			c := d.clone()
			for name := range c.names {
				if strings.HasPrefix(filepath.Base(name), "journal-"+day) {
					delete(c.names, name)
				}
			}
			w, r, told := start(c, 0)
			switch {
			case day == "none" && len(told) > 0:
				t.Errorf("all are there: %v", told)
			case day != "none" && (len(told) != 1 || !strings.Contains(told[0].Error(), day)):
				t.Errorf("%s is gone: %v", day, told)
			}
			stop(w, r)
		}
		w, r, told = start(d.clone(), 48*time.Hour)
		if len(told) > 0 {
			t.Errorf("what is past its retention is told: %v", told)
		}
		stop(w, r)
	})
}
