// Package config turns the operator's text into a typed, checked, immutable
// Config.
//
// The problem: an operator who mends a configuration one complaint at a time, by
// restarting a mail relay, learns to leave protections out. So the whole text is
// read and judged before anything is said: syntax, unknown keys and tables, wrong
// types, bad values, combinations that cannot be meant, rules that can never
// match or do not keep their own floor (policy.Prove), and files that cannot be
// used come back together, each as
//
//	file:line:column: what is wrong: how to mend it (did you mean "x"?)
//
// The format is TOML 1.0, read by go-toml's parser; this package keeps its own
// small tree of the text so that every key and value knows its line and column.
//
// One table (settings.go) says which keys exist, of which kind, with which default
// and meaning. Reading, the suggestions for misspelt keys, [Config.Print] and
// [Reference] all walk that table, so they cannot disagree.
//
// What it guarantees:
//
//  1. An empty text is a valid configuration, and every key has a default.
//  2. A nil error means that the Config can be acted on: nothing that it asks for
//     is missing in this version. Protection that does not exist yet is refused,
//     never ignored; the few harmless exceptions are in [Config.Notes].
//  3. What [Config.Print] writes parses to an equal Config.
//  4. Secrets are read by the packages that need them: a Config holds paths, and
//     password hashes, never passwords or keys.
//
// Nobody but cmd imports this package, and nothing below cmd sees text.
package config
