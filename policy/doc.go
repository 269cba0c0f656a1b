// Package policy is the judge: it says what protection a delivery must have,
// and whether it got it.
//
// The problem: SMTP was born in the clear, and every later protection (STARTTLS,
// DANE, MTA-STS, REQUIRETLS) is optional, each with a way to say "not here". A
// sender that decides in the middle of dialling forgets one of these ways sooner
// or later. Here deciding is separate from doing: [Decide] is a pure function from
// [Facts], a [Ruleset] and a [Query] to a [Plan]; a [Walk] over the plan is the
// fallback ladder; [Inspect] turns a finished handshake into [Evidence]; and
// [Step.Judge] says which [Level] the evidence proves and whether it reaches the
// floor. Nothing in this package dials, reads a file or asks for the time.
//
// What it guarantees (each is a fuzzed property: FuzzDecide, FuzzWalk, FuzzKeep, FuzzJudge, FuzzMemory):
//
//  1. No step's ceiling is below its target's floor.
//  2. Judge never returns more than the evidence proves.
//  3. With usable TLSA records, or an enforced MTA-STS policy, there is no clear-text
//     step, whatever the rules say; but for an override that names the domain, gives a
//     reason and has not expired, which the plan records.
//  4. Only STARTTLS, handshake and verification failures lower a rung;
//     connection trouble never does.
//  5. Wide before down: in order of preference, every host is tried on the higher
//     rung before any host is used on a lower one, and the first host that
//     reaches its floor is taken. Modern and classical are one step. Only within one
//     preference a session weaker than verified is kept open while the others are tried.
//  6. A walk ends within addresses x rungs steps.
//  7. Unusable TLSA records mean floor encrypted; a failed TLSA lookup means that
//     the host is not used now.
//  8. [Memory] raises floors and chooses an order; it never lowers a floor, never takes
//     TLS away, and fades.
//
// [Prove] goes the other way round: it plays everything that remote parties can do against an
// operator's [Ruleset], and names with an example each rule that can never match, or that does
// not keep its own floor.
//
// RFCs: 3207 (STARTTLS), 5321 (SMTP), 6698, 7671 and 7672 (DANE), 7435
// (opportunistic security), 7505 (null MX), 8461 (MTA-STS), 8460 (TLS-RPT result
// types), 8689 (REQUIRETLS), 3463 (status codes).
package policy
