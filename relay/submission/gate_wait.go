package submission

import "time"

// wait says how drain may interrupt a wait for input.
type wait uint8

const (
	waitFirm     wait = iota // inside content: not at all
	waitGrace                // inside a transaction: after Limits.DrainIdle
	waitYielding             // nothing would be lost: at once
)

// idle says how to wait for the next command.
func (g *gate) idle() wait {
	if g.tx.open {
		return waitGrace
	}
	return waitYielding
}

// await sends the replies and waits for more input.
func (g *gate) await(deadline time.Time, w wait) error {
	if err := g.flush(); err != nil {
		return err
	}
	if w != waitFirm {
		g.lessen()
	}
	g.arm(deadline, w)
	_, err := g.br.Peek(g.br.Buffered() + 1)
	if w != waitFirm {
		g.settle()
	}
	return err
}

// beginLine starts the clock of a command line, and returns when it must be whole.
func (g *gate) beginLine() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lineBegan = time.Now()
	return g.lineBegan.Add(g.server.limits.Command)
}

// arm sets the read deadline; settle says that the wait is over.
func (g *gate) arm(deadline time.Time, w wait) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting, g.deadline = w, deadline
	_ = g.tcp.SetReadDeadline(g.due())
}

// due is the deadline of the present wait. The grace is for a whole command line, and
// counts from where draining began when the wait is older. Needs mu.
func (g *gate) due() time.Time {
	switch {
	case !g.draining || g.waiting == waitFirm:
		return g.deadline
	case g.waiting == waitYielding:
		return time.Unix(1, 0)
	}
	from := g.lineBegan
	if g.drainBegan.After(from) {
		from = g.drainBegan
	}
	if end := from.Add(g.server.limits.DrainIdle); end.Before(g.deadline) {
		return end
	}
	return g.deadline
}

func (g *gate) settle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = waitFirm
}

// drain asks the session to end: at once when it is idle, else after the
// transaction that is open.
func (g *gate) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining, g.drainBegan = true, time.Now()
	if g.waiting != waitFirm {
		_ = g.tcp.SetReadDeadline(g.due())
	}
}

func (g *gate) isDraining() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.draining
}
