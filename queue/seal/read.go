package seal

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// asideFor is how long a row that does not open is left alone. Then it is claimed again:
// its key may have been put back.
const asideFor = time.Hour

// Claim leases due rows: see queue.Store. A row that does not open is reported and set
// aside, so that it takes nobody's place.
func (s *Store) Claim(ctx context.Context, q queue.ClaimQuery) ([]queue.Row, time.Time, error) {
	rows, next, err := s.inner.Claim(ctx, q)
	if err != nil {
		return nil, next, err
	}
	good := rows[:0]
	v := view{s: s, keep: true}
	for i := range rows {
		if rows[i].Data == nil { // by q.Known
			rows[i].Group = s.groups.show(rows[i].Group)
			good = append(good, rows[i])
			continue
		}
		stored := rows[i]
		err := v.row(&rows[i])
		if err == nil {
			good = append(good, rows[i])
			continue
		}
		s.report(err)
		if again := s.aside(ctx, stored, err, q.Now); next.IsZero() || again.Before(next) {
			next = again
		}
	}
	return good, next, nil
}

// aside has a row, as it is stored, wait as held and returns until when. One whose own
// octets are not those that were sealed stays leased instead: to write them again would keep
// for ever what may be a fault of memory.
func (s *Store) aside(ctx context.Context, r queue.Row, why error, now time.Time) time.Time {
	var d *Damage
	if errors.As(why, &d) && d.Thing() == thingRow && errors.Is(why, ErrDamaged) {
		return r.Until
	}
	r.State, r.Due, r.Record = queue.RowHeld, now.Add(asideFor), nil
	if err := s.inner.Commit(context.WithoutCancel(ctx), &queue.Change{Update: []queue.Row{r}}); err != nil {
		s.o.Logger.Error("seal: cannot be set aside", "msg", r.Message, "err", err)
		return r.Until
	}
	return r.Due
}

// view opens rows one after the other; those of one message together.
type view struct {
	s      *Store
	keep   bool // secrets are wanted again soon
	id     queue.ID
	secret *secret
	record []byte
	err    error
}

// row opens a row with its record.
func (v *view) row(r *queue.Row) error {
	if v.id != r.Message || v.id == "" {
		v.id = r.Message
		v.secret, v.record, v.err = v.s.open(r.Message, r.Record)
		if v.keep && v.err == nil {
			v.s.secrets.put(r.Message, v.secret)
		}
	}
	if v.err != nil {
		return v.err
	}
	r.Record = v.record
	return v.s.openRow(v.secret, r)
}

// Read returns a message's record and rows: see queue.Store. What does not open has the
// reason, a *Damage, in Row.Damage; that of the record is in all rows.
func (s *Store) Read(ctx context.Context, id queue.ID) ([]byte, []queue.Row, error) {
	stored, rows, err := s.inner.Read(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	sec, record, err := s.open(id, stored)
	if err == nil {
		s.secrets.put(id, sec)
	}
	for i := range rows {
		r := &rows[i]
		if r.Damage = err; err == nil {
			r.Damage = s.openRow(sec, r)
		}
		if r.Damage != nil {
			r.Lane, r.Data = "", nil
		}
	}
	return record, rows, nil
}

// Scan calls fn item by item: see queue.Store. A row that does not open has the reason in
// Row.Damage. An entry that does not open is reported and left out; one that was erased is
// left out without a word.
func (s *Store) Scan(ctx context.Context, q queue.ScanQuery, fn func(queue.Item) error) error {
	if q.Kind == queue.ScanCells {
		return s.scanCells(ctx, q, fn)
	}
	return s.scan(ctx, s.inner, q, fn)
}

// scan is Scan of rows and entries that are read from inner.
func (s *Store) scan(ctx context.Context, inner queue.JournalReader, q queue.ScanQuery, fn func(queue.Item) error) error {
	limit, n, stopped := q.Limit, 0, false
	// Rows of one lane are read to be changed, most often.
	v := view{s: s, keep: q.Lanes != nil}
	if q.Lanes != nil {
		q.Lanes = s.lanes(q.Lanes)
	}
	visit := func(it queue.Item) error {
		err := s.openItem(&it, q.Kind, &v)
		if err != nil {
			if q.Kind != queue.ScanJournal || !errors.Is(err, ErrErased) {
				s.report(err)
			}
			return nil
		}
		n++
		err = fn(it)
		stopped = err != nil
		return err
	}
	if limit <= 0 {
		return inner.Scan(ctx, q, visit)
	}
	// Items that are left out do not count: who gets less than the limit is at the end.
	for {
		pos, seen := "", 0
		q.Limit = limit - n
		err := inner.Scan(ctx, q, func(it queue.Item) error {
			pos = it.Pos
			seen++
			return visit(it)
		})
		if err != nil || seen < q.Limit || n >= limit || stopped {
			return err
		}
		q.After = pos
	}
}

// lanes are the names of lanes as the store behind has them: hidden, and as they are for
// rows from before sealing.
func (s *Store) lanes(names []string) []string {
	all := make([]string, 0, 2*len(names))
	for _, name := range names {
		all = append(all, s.names.lane(name), name)
	}
	return all
}

// openItem opens what a scan found.
func (s *Store) openItem(it *queue.Item, kind queue.ItemKind, v *view) (err error) {
	if kind != queue.ScanJournal {
		r := &it.Row
		if r.Damage = v.row(r); r.Damage != nil {
			r.Lane, r.Data, r.Record = "", nil, nil
		}
		return nil
	}
	if !isSealed(it.Entry) {
		if s.o.RefusePlain {
			return &Damage{What: "journal entry", Pos: it.Pos, Err: ErrPlain}
		}
		return nil
	}
	plain, err := openEntry(s.ring.dayTree, it.Entry)
	if err != nil {
		d := &Damage{What: "journal entry", Pos: it.Pos, Err: err}
		if _, name, _, e := entryHead(it.Entry); e == nil {
			if id, e := queue.ParseID(name); e == nil {
				d.Message = id
			}
		}
		return d
	}
	if day, name, _, err := entryHead(it.Entry); err == nil && name != "" {
		it.Key = leafKey(day, name)
	}
	it.Entry = plain
	return nil
}

// Body opens a message's body: see queue.Store. Reading gives a *Damage when a frame
// does not open, and nothing of that frame.
func (s *Store) Body(ctx context.Context, id queue.ID) (queue.Body, error) {
	sec, err := s.secret(ctx, id)
	if err != nil {
		return nil, err
	}
	inner, err := s.inner.Body(ctx, id)
	if err != nil || sec.plain {
		return inner, err
	}
	o, err := newOpener(inner, sec, id)
	if err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	o.pool, o.told = &s.pool, s.report
	return o, nil
}
