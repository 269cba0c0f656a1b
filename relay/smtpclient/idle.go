package smtpclient

import "bufio"

const (
	// mostIdle is how many connections are kept idle, over all hosts: an idle TLS connection
	// costs about 9 KiB here, and the host somewhat more.
	mostIdle = 2000
	// idleShare is the part of the files that the process may have open which idle
	// connections may take: a quarter. The rest is for those in use, intake and the store.
	idleShare = 4
	// fewestIdle are kept whatever the limit.
	fewestIdle = 16
)

// idleLimit is how many connections may be idle in a process that may have so many files
// open; 0: nobody knows.
func idleLimit(files uint64) int {
	if files == 0 {
		return mostIdle
	}
	return int(min(max(files/idleShare, fewestIdle), mostIdle))
}

// rest gives back the buffers of a connection that is fit and nobody uses. The lock of the
// pool is held.
func (p *Pool) rest(c *conn) {
	c.r.Reset(nil)
	p.readers.Put(c.r)
	c.r, c.text = nil, nil
	if cap(c.out) > 0 {
		out := c.out[:0]
		p.outs.Put(&out)
		c.out = nil
	}
}

// wake gives a connection that was idle its buffers again. The lock of the pool is held.
func (p *Pool) wake(c *conn) {
	c.r = p.readers.Get().(*bufio.Reader)
	c.r.Reset(c.wire)
	c.out = *p.outs.Get().(*[]byte)
}
