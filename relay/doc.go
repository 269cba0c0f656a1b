// Package relay is the courier: it carries one envelope through plan, walk and
// session to results.
//
// The problem: most relays decide about protection in the middle of dialling, and
// so log what they hoped for rather than what they got. Here the courier is a
// short loop that decides nothing. Facts come from a [Scout], the plan from
// policy.Decide, the next step from the walk, the session and its evidence from
// an [Opener], the verdict from policy.Step.Judge. The courier carries them from
// one to the other and writes down what happened as an [Attempt].
//
// Guarantees:
//
//   - MAIL FROM is sent only after the session's level was judged good enough.
//   - A recipient that a host has taken responsibility for is never sent again.
//   - After a lost reply to the final dot no other host is tried in this attempt
//     (the host may have the message: RFC 5321 4.5.4.1, RFC 1047).
//   - A fault of ours is a temporary failure.
//
// RFCs: 5321 4.5.4 and 5.1 (strategies), 3207, 8689, 3463.
package relay
