package seal

import (
	"errors"
	"strings"

	"github.com/sealpost/sealpost/queue"
)

// Why something does not open: a *Damage wraps one of them.
var (
	// ErrDamaged: what is stored is not what was sealed.
	ErrDamaged = errors.New("changed on disk: the seal does not hold")
	// ErrKeyGone: its key is not in the key directory. It was erased, or the store was
	// restored from a backup that is older than the erasure.
	ErrKeyGone = errors.New("its key is gone: it was erased, or comes from a backup that is older than the erasure")
	// ErrErased: the journal keys of its message were destroyed by Erase.
	ErrErased = errors.New("erased")
	// ErrVersion: a newer program sealed it.
	ErrVersion = errors.New("sealed in a form that this version does not know: use the version that wrote it, or a newer one")
	// ErrPlain: it is not sealed, and Options.RefusePlain is set.
	ErrPlain = errors.New("not sealed, and plain values are refused")
)

// Damage is one stored thing that does not open. The rest is not touched by it, and the
// caller can set it aside by its names.
type Damage struct {
	Message queue.ID // "" when the thing is no message's
	What    string   // "record", "row 3", "frame 7 of the body", "journal entry", "cell"
	Pos     string   // where a scan found it, or the name of a cell's class
	Err     error    // one of the errors above
}

// Error names the message and what it was.
func (d *Damage) Error() string {
	s := "seal: "
	if d.Message != "" {
		s += "message " + string(d.Message) + ": "
	}
	s += d.What
	if d.Pos != "" {
		s += " at " + d.Pos
	}
	return s + ": " + d.Err.Error()
}

// Unwrap returns the reason.
func (d *Damage) Unwrap() error { return d.Err }

// Thing is what it was, in one word of a closed set: see Things.
func (d *Damage) Thing() string {
	for _, t := range Things() {
		if strings.Contains(d.What, t) {
			return t
		}
	}
	return ""
}

// Things are the words of Thing. A frame is a part of a body.
func Things() []string { return []string{"record", thingRow, "body", "entry", "cell"} }

const thingRow = "row"
