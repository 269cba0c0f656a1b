package queue

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"
)

// BreakKind is what is wrong with a place of the journal.
type BreakKind string

// The kinds of break.
const (
	BreakMissing   BreakKind = "missing"   // entries that were there are not
	BreakAltered   BreakKind = "altered"   // number, time, octets or link are not those that were written
	BreakRewritten BreakKind = "rewritten" // entries fit together, but not with a head that was signed
	BreakDamaged   BreakKind = "damaged"   // the disk does not give them back
	BreakHead      BreakKind = "head"      // a signed head is gone, forged, foreign or out of place
	BreakMark      BreakKind = "mark"      // the mark of the oldest entry is not the signed one
)

// Break is a place where the chain does not hold. Number is the first entry concerned,
// Last the last one.
type Break struct {
	Number uint64    `json:"number"`
	Last   uint64    `json:"last"`
	At     time.Time `json:"at,omitzero"` // what the entry says; zero when it is not there
	Kind   BreakKind `json:"kind"`
	Detail string    `json:"detail"`
}

// String says it in one line.
func (b Break) String() string {
	s := fmt.Sprintf("entry %d", b.Number)
	if b.Last > b.Number {
		s = fmt.Sprintf("entries %d to %d", b.Number, b.Last)
	}
	if !b.At.IsZero() {
		s += " of " + b.At.UTC().Format(time.RFC3339Nano)
	}
	return s + ": " + string(b.Kind) + ": " + b.Detail
}

// maxBreaks is how many breaks a proof lists.
const maxBreaks = 20

// Proof is what a check of the journal found.
type Proof struct {
	Entries uint64  `json:"entries"`         // of the chain, looked at
	Before  uint64  `json:"before"`          // entries from before the chain: nothing vouches for them
	Signed  uint64  `json:"signed"`          // entries of the chain that a head vouches for
	Heads   uint64  `json:"heads"`           // good ones
	Head    *Head   `json:"head,omitempty"`  // the newest good one
	Start   uint64  `json:"start"`           // first number of the chain
	Low     uint64  `json:"low"`             // oldest number that is kept
	Last    uint64  `json:"last"`            // newest number
	Breaks  []Break `json:"breaks"`          // the first ones, by number
	More    int     `json:"more,omitempty"`  // breaks that are not listed
	Noted   string  `json:"noted,omitempty"` // about the head that the operator had noted
}

// Fine reports whether nothing is broken.
func (p *Proof) Fine() bool { return len(p.Breaks) == 0 }

// Note is a head that somebody wrote down: entry Number has that link.
type Note struct {
	Number uint64
	Hash   Hash
}

// ParseNote reads "NUMBER:HASH".
func ParseNote(s string) (n Note, err error) {
	var hash string
	if _, err = fmt.Sscanf(s, "%d:%64s", &n.Number, &hash); err == nil {
		err = n.Hash.UnmarshalText([]byte(hash))
	}
	if err != nil || s != n.String() {
		return n, fmt.Errorf("%q is no noted head: use NUMBER:HASH as audit verify prints it", s)
	}
	return n, nil
}

// String is what ParseNote reads.
func (n Note) String() string { return fmt.Sprintf("%d:%s", n.Number, n.Hash) }

// Checker checks a journal that is shown to it in order: before each entry all heads about
// entries before it. It needs no memory of them. It is for one goroutine.
type Checker struct {
	keys     []ed25519.PublicKey
	note     *Note
	latest   Head // what Start and Low are taken from; Index 0: there is none
	proof    Proof
	expected uint64 // next number
	base     Hash   // link of the entry before
	other    Hash   // what that would be if its link was what was altered
	known    bool   // base is
	vouched  uint64 // entries up to it fit with a head
	index    uint64 // of the head before; 0: none yet
	previous Hash   // its hash
	jumped   bool   // heads may have been removed since
}

// VerifyOptions say what a check of the journal trusts.
type VerifyOptions struct {
	Keys []ed25519.PublicKey // that may have signed; none: the store's own
	Note *Note               // a head that was written down; nil: none
}

// Prover is a Store that can check its own journal, while it is used.
type Prover interface {
	Verify(ctx context.Context, o VerifyOptions) (Proof, error)
}

// CheckOptions say what a Checker trusts.
type CheckOptions struct {
	// Keys are those that may have signed. None: whatever key the newest head names,
	// which shows accidents, but no forger.
	Keys []ed25519.PublicKey
	// Latest is the newest head that Good says yes to; nil: there is none.
	Latest *Head
	Low    uint64 // oldest number, by the store's own mark
	Note   *Note  // nil: none
}

// Good reports whether a stored head is what it must be at its place.
func (o *CheckOptions) Good(index uint64, stored []byte) (Head, error) {
	h, err := ParseHead(stored)
	switch {
	case err != nil:
	case h.Index != index:
		err = fmt.Errorf("head %d lies in the place of head %d", h.Index, index)
	case len(o.Keys) > 0 && !slices.ContainsFunc(o.Keys, func(k ed25519.PublicKey) bool { return bytes.Equal(k, h.Key) }):
		err = fmt.Errorf("head %d was signed with another key (%x)", index, h.Key)
	}
	return h, err
}

// NewChecker begins a check.
func NewChecker(o CheckOptions) *Checker {
	c := &Checker{keys: o.Keys, note: o.Note, expected: max(o.Low, 1)}
	c.proof.Low = o.Low
	if o.Latest == nil {
		return c
	}
	c.latest = *o.Latest
	if len(c.keys) == 0 {
		c.keys = []ed25519.PublicKey{c.latest.Key}
	}
	if c.latest.Low != o.Low {
		c.broken(Break{Number: min(c.latest.Low, o.Low), Last: max(c.latest.Low, o.Low, 1) - 1, Kind: BreakMark,
			Detail: fmt.Sprintf("the store says that %d is the oldest entry, the newest head says %d", o.Low, c.latest.Low)})
	}
	c.proof.Start = c.latest.Start
	c.Trimmed(c.latest)
	c.jumped = c.latest.Low > c.latest.Start
	return c
}

// Expected is the number that must come next.
func (c *Checker) Expected() uint64 { return c.expected }

// Trimmed goes on at a newer mark: older entries were removed meanwhile, by right.
func (c *Checker) Trimmed(latest Head) {
	c.latest.Low, c.proof.Low = latest.Low, latest.Low
	c.expected, c.base, c.known = max(latest.Low, 1), latest.Anchor, true
	c.other, c.vouched, c.jumped = Hash{}, c.expected-1, true
	if c.note != nil && c.note.Number < c.expected {
		c.noted(c.expected-1, c.base)
	}
}

func (c *Checker) broken(b Break) {
	if len(c.proof.Breaks) == maxBreaks {
		c.proof.More++
		return
	}
	b.Last = max(b.Last, b.Number)
	c.proof.Breaks = append(c.proof.Breaks, b)
}

// Entry takes the next entry; stored are the octets that were handed to the store.
func (c *Checker) Entry(number uint64, at int64, link Hash, stored []byte) {
	c.reach(number)
	when := time.Unix(0, at).UTC()
	if c.proof.Start == 0 {
		c.proof.Start = number // no head tells
	}
	c.proof.Entries++
	leaf := Leaf(stored)
	computed := link
	switch {
	case number < c.proof.Start:
		c.broken(Break{Number: number, At: when, Kind: BreakAltered, Detail: "it claims to be of the chain, which begins later"})
	case !c.known:
	case Link(c.base, number, at, leaf) == link:
	case c.other != Hash{} && Link(c.other, number, at, leaf) == link:
	default:
		computed = Link(c.base, number, at, leaf)
		c.broken(Break{Number: number, At: when, Kind: BreakAltered, Detail: "its number, time, octets or link are not those that were written"})
	}
	c.pass(number, link)
	if c.known = true; computed != link {
		c.other = computed
	}
}

// Plain takes an entry that is not of the chain.
func (c *Checker) Plain(number uint64, at int64) {
	c.reach(number)
	if c.latest.Index != 0 && number >= c.proof.Start {
		c.broken(Break{Number: number, At: time.Unix(0, at).UTC(), Kind: BreakAltered, Detail: "it is not of the chain, and all entries from " + fmt.Sprint(c.proof.Start) + " on are"})
		c.pass(number, Hash{})
		c.known = false
		return
	}
	c.proof.Before++
	c.pass(number, c.base)
}

// Damaged takes entries that cannot be read.
func (c *Checker) Damaged(first, last uint64, err error) {
	c.reach(first)
	c.broken(Break{Number: first, Last: last, Kind: BreakDamaged, Detail: err.Error()})
	c.pass(last, Hash{})
	c.known = false
}

// reach reports entries that should have come before.
func (c *Checker) reach(number uint64) {
	if number > c.expected {
		c.missing(number - 1)
		c.known = false
	}
}

func (c *Checker) missing(last uint64) {
	c.broken(Break{Number: c.expected, Last: last, Kind: BreakMissing, Detail: "not there"})
}

func (c *Checker) pass(number uint64, link Hash) {
	c.expected, c.base, c.other = number+1, link, Hash{}
	c.proof.Last = number
	c.noted(number, link)
}

// Head takes the next head.
func (c *Checker) Head(index uint64, stored []byte) {
	o := CheckOptions{Keys: c.keys}
	h, err := o.Good(index, stored)
	hash, bad := HeadHash(stored), err != nil // what follows a bad one cannot fit with it
	switch {
	case err != nil:
	case c.index == 0 && !c.jumped && index != 1:
		err = fmt.Errorf("the heads before head %d are missing", index)
	case c.index == 0 || c.jumped:
	case index != c.index+1:
		err = fmt.Errorf("head %d comes after head %d", index, c.index)
	case h.Previous != c.previous:
		err = fmt.Errorf("head %d does not follow from head %d", index, c.index)
	case h.Number < c.vouched || h.Start != c.proof.Start:
		err = fmt.Errorf("head %d is about less than the one before", index)
	}
	c.index, c.previous, c.jumped = index, hash, bad
	if err != nil {
		c.broken(Break{Number: c.vouched + 1, Last: c.expected - 1, Kind: BreakHead, Detail: err.Error()})
		return
	}
	c.proof.Heads++
	c.proof.Head = &h
	c.match(&h)
}

// match compares a good head with the entries before it.
func (c *Checker) match(h *Head) {
	switch {
	case h.Number+1 < c.expected: // about what was removed
		return
	case h.Number >= c.expected:
		c.missing(h.Number)
		c.pass(h.Number, h.Hash)
	case c.known && c.base != h.Hash && c.other != h.Hash && h.Number >= c.proof.Start:
		c.broken(Break{Number: max(c.vouched+1, c.proof.Start), Last: h.Number, Kind: BreakRewritten,
			Detail: fmt.Sprintf("head %d was signed over other entries", h.Index)})
		c.other = h.Hash
	default:
		c.base = h.Hash
	}
	c.known = true
	if h.Number >= c.proof.Start && h.Number > c.vouched {
		c.proof.Signed += h.Number - max(c.vouched, c.proof.Start-1)
	}
	c.vouched = max(c.vouched, h.Number)
}

// noted compares what somebody wrote down.
func (c *Checker) noted(number uint64, link Hash) {
	switch {
	case c.note == nil || c.note.Number > number:
		return
	case c.note.Number < number:
		c.proof.Noted = "the noted entry is not kept any more"
	case c.note.Hash != link:
		c.broken(Break{Number: number, Kind: BreakRewritten, Detail: "the noted head names another hash"})
		c.proof.Noted = "another"
	default:
		c.proof.Noted = "as noted"
	}
	c.note = nil
}

// End gives the result.
func (c *Checker) End() Proof {
	if c.note != nil {
		c.missing(c.note.Number)
	}
	if c.latest.Index == 0 && c.proof.Entries > 0 {
		c.broken(Break{Number: c.proof.Start, Last: c.proof.Last, Kind: BreakHead, Detail: "no signed head vouches for them"})
	}
	p := c.proof
	slices.SortStableFunc(p.Breaks, func(a, b Break) int { return cmp.Compare(a.Number, b.Number) })
	return p
}
