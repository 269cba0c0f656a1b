package queue

import (
	"context"
	"errors"
	"io"
	"time"
)

// Store keeps messages, envelopes, the journal and small cells. One door, few
// verbs; every method is durable when it returns nil. Records are opaque
// (sealed) bytes to it: it indexes only what scheduling needs. All methods are
// safe for concurrent use. storetest.Run is its contract.
type Store interface {
	// Insert streams the body and writes the message, its rows and its journal
	// entry in one atomic, synced step. nil is the instant of acceptance. When the
	// body's reader or Finish fails, nothing stays, and the error is returned as it is.
	Insert(ctx context.Context, in *Insertion) error
	// Claim leases up to q.Limit due rows: groups take turns, and within a group its
	// lanes. None over q.PerLane leased in one lane, or over a group's share. A lease that
	// ran out counts as no lease. A lease is not on disk: it ends with the process. next is when something more can be claimed with the same
	// query without a Commit or Insert before (zero: never).
	Claim(ctx context.Context, q ClaimQuery) (rows []Row, next time.Time, err error)
	// Commit applies a change atomically. nil means that all of it is on disk, synced: rows,
	// removals, notices and entries. An error means that nothing of it is. ErrStale when a row is gone, was changed or
	// was leased since the caller got it: nothing is changed then.
	Commit(ctx context.Context, c *Change) error
	// Body opens a message's body, which stays readable to its end even when the
	// message is removed meanwhile. ErrNotFound when there is none.
	Body(ctx context.Context, id ID) (Body, error)
	// Read returns a message's record and its rows, by number. ErrNotFound when gone.
	Read(ctx context.Context, id ID) (record []byte, rows []Row, err error)
	// Scan calls fn in key order until it returns an error, which Scan returns
	// (ErrStop counts as nil).
	Scan(ctx context.Context, q ScanQuery, fn func(Item) error) error
	// Cell returns a small named value, nil when it was never set.
	Cell(ctx context.Context, name string) ([]byte, error)
	// SetCell sets it; nil removes it. It is on disk, synced, when nil is returned. A name is not empty.
	SetCell(ctx context.Context, name string, value []byte) error
	// Close ends the store. The caller has stopped using it.
	Close() error
}

// Errors of a Store.
var (
	ErrNotFound = errors.New("queue: not found")
	ErrExists   = errors.New("queue: the message ID is taken")
	ErrStale    = errors.New("queue: the lease is no longer ours")
	ErrStop     = errors.New("queue: stop the scan")
	ErrFull     = errors.New("queue: the disk is too full")
)

// Insertion is a message on its way in.
type Insertion struct {
	ID   ID // not used before: ErrExists
	Body io.Reader
	// Finish makes the (sealed) message record and the journal entry, once the
	// body was read to its end and its size is known. Called once.
	Finish func(size int64) (record, entry []byte, err error)
	// Rows are the envelopes: at least one, waiting or held, numbers all different.
	Rows []Row
}

// RowState is where an envelope stands, as far as a store must know.
type RowState uint8

// The states of a row. Leased is a waiting or held row with a lease; a lease need
// not survive the process that holds it.
const (
	RowWaiting RowState = iota + 1
	RowLeased
	RowHeld
)

// Row is an envelope as a store sees it.
type Row struct {
	Message ID
	Number  int    // the envelope's number within the message
	Lane    string // keyed hash or name of the domain: equal for equal domains
	Group   string // fairness class: opaque, short, equal for what shares a turn; never changes
	// Due is when the row may be claimed. A held row is claimed like a waiting one
	// when its time has come: the queue sets it to the end of the message's time.
	Due   time.Time
	State RowState
	Until time.Time // end of the lease, when leased
	// Fence grows with each lease and each change of the row; Commit checks it.
	Fence uint64
	Data  []byte // the sealed envelope
	// Rest, in an update: nothing of the row's lane is claimed before, but what has been
	// due for long. A hint that dies with the process: a store need not mind it.
	Rest time.Time
	// Record is the message's record. Claim and Scan fill it in; nobody else reads it.
	Record []byte
	// Damage is why the row or its record cannot be read: Data and Record are nil then. Read
	// and Scan set it, on a store that can tell; Claim gives no such row.
	Damage error
}

// Counter is a Store that can also count, cheaply. Stats of a Queue over a store
// that cannot are empty.
type Counter interface{ Stats() Stats }

// ClaimQuery says what may be claimed.
type ClaimQuery struct {
	Now     time.Time
	Until   time.Time // end of the leases
	Limit   int
	PerLane int // 0: no limit
	// Share bounds what one group takes of the places: it gets a row only while it has
	// fewer leases than Share times the places that are left of Limit. So some are
	// always left for who comes next. 0: no limit.
	Share int
	// Trial is how many leases a lane may have at first. What ends soon, or with the row's
	// removal, earns it more, up to PerLane; what took long and was in vain costs it
	// half. 0: PerLane at once. A hint: a store need not mind it.
	Trial int
	// Known reports that a row's content need not be read: the row may come without Data
	// and Record, and with another Lane. A hint; nil: all are read.
	Known func(id ID, number int) bool
}

// Change is what Commit does in one atomic step.
type Change struct {
	// Update rewrites rows (new due time, state, data). Each must carry the fence
	// with which it was read or claimed; a lease ends.
	Update []Row
	// Remove deletes rows; with the last row of a message its record and body go
	// in the same step (bodies that are being read stay readable). Same rule for fences.
	Remove []Row
	// Insert adds messages (notices) in the same step. Their bodies are small.
	Insert []*Insertion
	// Entries are appended to the journal.
	Entries [][]byte
	// Subjects are the messages that the Entries are about, one for each. nil: all are about
	// the message of the first row. A store that destroys keys must know whose they are.
	Subjects []ID
}

// ItemKind is what a Scan is over.
type ItemKind uint8

// The kinds of item.
const (
	ScanRows    ItemKind = iota + 1 // by message ID and number
	ScanJournal                     // by sequence number
	ScanCells                       // by name; cells that are set or removed meanwhile may be missed
)

// ScanQuery is a range: after the position, at most Limit items (0: all).
type ScanQuery struct {
	Kind  ItemKind
	After string // Item.Pos of the last item seen; "" from the start
	Limit int
	// Lanes, for ScanRows: only rows of these lanes are wanted. A hint: others may come, too.
	// nil: all are wanted.
	Lanes []string
}

// Item is one thing that a Scan found.
type Item struct {
	Pos   string // position: opaque, sortable, stays valid; for ScanCells the cell's name, and any name is a position
	Row   Row    // for ScanRows, with its present state; Data is not older than Fence
	Entry []byte // for ScanJournal; for ScanCells the value
	Key   string // for ScanJournal: what the entry is sealed by, for an Eraser; "" when it is not
}
