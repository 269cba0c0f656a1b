package policy

// Decide is the judge: pure and total. A delivery that must not or cannot be
// tried is a Plan with Refusal set.
func Decide(f Facts, r Ruleset, q Query) Plan { return Plan{} }
