package queue

import (
	"fmt"
	"testing"
	"time"
)

// A hundred thousand envelopes that wait for the end of a suspension cost the claims of others
// nothing: they are due then and not before, so nobody looks at them.
func BenchmarkClaimBesideSuspended(b *testing.B) {
	for _, n := range []int{0, 1000, 100_000} {
		b.Run(fmt.Sprintf("%d suspended", n), func(b *testing.B) {
			now := time.Unix(1_800_000_000, 0)
			s := NewSchedule()
			add := func(lane string, due time.Time) {
				s.Add(Booking{Row: Row{Message: NewID(now), Lane: lane, Due: due, State: RowWaiting}, Size: 1})
			}
			for range n {
				add("suspended.example", now.Add(time.Hour))
			}
			for i := range 100 {
				add(fmt.Sprintf("d%d.example", i), now)
			}
			b.ReportAllocs()
			for b.Loop() {
				rows, _ := s.Claim(ClaimQuery{Now: now, Until: now.Add(time.Minute), Limit: 1})
				if len(rows) != 1 || rows[0].Lane == "suspended.example" {
					b.Fatalf("claimed %+v", rows)
				}
				c := &Change{Update: []Row{rows[0]}}
				c.Update[0].State, c.Update[0].Due = RowWaiting, now
				p, err := s.Prepare(c)
				if err != nil {
					b.Fatal(err)
				}
				s.Apply(c, p)
			}
		})
	}
}
