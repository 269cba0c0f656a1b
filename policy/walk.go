package policy

// Walk is the moving finger on a plan: the fallback ladder. It belongs to one
// goroutine.
type Walk struct{}

// Walk starts a walk over the plan.
func (p *Plan) Walk() *Walk { return &Walk{} }

// Next returns the next step; false when the walk is over.
func (w *Walk) Next() (Step, bool) { return Step{}, false }

// Report says what came of the step that Next returned last.
func (w *Walk) Report(s Step, r Result) {}

// Trace returns what was tried so far, in order.
func (w *Walk) Trace() Trace { return nil }

// Failure returns why nothing was good enough, after the walk is over.
func (w *Walk) Failure() *Failure { return nil }
