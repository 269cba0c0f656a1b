package smtpclient

// shelf finds idle connections by their key and by their face, in one step however many
// there are. Its owner's lock is held for each call.
type shelf struct {
	keys  map[key]row
	faces map[face]row
}

// row is connections in the order in which they were put there. The links are in the
// connections, so that any of them can be taken out at once.
type row struct {
	first, last *conn
	n           int
}

// rank is which row of those that a connection stands in at the same time.
type rank uint8

const (
	byPlace rank = iota
	byKey
	byFace
	ranks
)

// links are a connection's neighbours in one row.
type links struct{ before, behind *conn }

func (r *row) put(c *conn, by rank) {
	c.links[by] = links{before: r.last}
	if r.last != nil {
		r.last.links[by].behind = c
	} else {
		r.first = c
	}
	r.last = c
	r.n++
}

func (r *row) take(c *conn, by rank) {
	l := c.links[by]
	c.links[by] = links{}
	if l.before != nil {
		l.before.links[by].behind = l.behind
	} else {
		r.first = l.behind
	}
	if l.behind != nil {
		l.behind.links[by].before = l.before
	} else {
		r.last = l.before
	}
	r.n--
}

func (s *shelf) put(c *conn) {
	putInto(s.keys, c.key, c, byKey)
	if !c.face.none() {
		putInto(s.faces, c.face, c, byFace)
	}
}

func (s *shelf) take(c *conn) {
	takeFrom(s.keys, c.key, c, byKey)
	if !c.face.none() {
		takeFrom(s.faces, c.face, c, byFace)
	}
}

func putInto[K comparable](rows map[K]row, k K, c *conn, by rank) {
	r := rows[k]
	r.put(c, by)
	rows[k] = r
}

func takeFrom[K comparable](rows map[K]row, k K, c *conn, by rank) {
	r := rows[k]
	r.take(c, by)
	if r.n == 0 {
		delete(rows, k)
		return
	}
	rows[k] = r
}
