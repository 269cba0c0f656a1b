// Package storetest is the contract of a queue.Store as code.
//
// A queue may lose nothing, and what it says about its store must be true for every
// store: so there is one suite (Run), one model that is simple enough to be believed
// (NewModel), random histories in which a store must do what the model does
// (Compare), and a harness that cuts the power after every step of such a
// history and looks at what is left (Crash).
//
// The model is also the store for tests of other packages: in memory, no files, at
// home in a testing/synctest bubble.
package storetest
