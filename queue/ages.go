package queue

import "time"

// agesWidth is how exactly the ages are known. Rows that came in at the same time
// share a count, so that a million rows need no second order.
const agesWidth = 10 * time.Second

// ages counts rows by state and by time of acceptance, which is in the message ID.
type ages struct {
	spans map[int64]*[RowHeld + 1]int32 // by time in agesWidth
	count [RowHeld + 1]int
	bytes [RowHeld + 1]int64
	low   [RowHeld + 1]int64 // no span below has rows of the state
}

func (a *ages) add(state RowState, id packedID, size int64) {
	at := id.millis() / agesWidth.Milliseconds()
	if a.count[state] == 0 || at < a.low[state] {
		a.low[state] = at
	}
	a.count[state]++
	a.bytes[state] += size
	span := a.spans[at]
	if span == nil {
		span = new([RowHeld + 1]int32)
		a.spans[at] = span
	}
	span[state]++
}

func (a *ages) remove(state RowState, id packedID, size int64) {
	at := id.millis() / agesWidth.Milliseconds()
	a.count[state]--
	a.bytes[state] -= size
	span := a.spans[at]
	if span[state]--; *span == ([RowHeld + 1]int32{}) {
		delete(a.spans, at)
	}
}

// oldest is when the oldest row of a state came in, or a little before.
func (a *ages) oldest(state RowState) (millis int64, ok bool) {
	if a.count[state] == 0 {
		return 0, false
	}
	if span := a.spans[a.low[state]]; span == nil || span[state] == 0 {
		first := true
		for at, span := range a.spans {
			if span[state] > 0 && (first || at < a.low[state]) {
				a.low[state], first = at, false
			}
		}
	}
	return a.low[state] * agesWidth.Milliseconds(), true
}
