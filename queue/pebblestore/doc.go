// Package pebblestore is a queue.Store on one machine's disk, on Pebble, an
// embedded log-structured store.
//
// The problem: a relay says 250 when a message is on disk, and forgets it a moment
// later. That is one fsync to accept and one to forget, thousands of times a second,
// with bodies of up to many MiB, on a store that must not get slower by what
// it has forgotten.
//
// # Keys
//
// One database holds everything. ID is the message's 26 characters, numbers are
// big-endian.
//
//	key                    value                                 written     removed by
//	v                      layout version                        once        never
//	m ID                   message record                        once        SingleDelete
//	r ID number(4)         state, writes, due, size, lane,       each step   SingleDelete or Delete
//	                       group, data
//	b ID chunk(4)          at most 256 KiB of body               once        SingleDelete
//	o ID                   "this body may be an orphan"          seldom      Delete
//	j sequence(8)          time, journal entry                   once        DeleteRange
//	t hour(8)              first journal sequence in the hour    once        Delete
//	s name                 numbers of the store itself           seldom      never
//	c name                 cells                                 overwritten Delete
//
// A row that was written once only, as that of a message that is delivered at the first
// try, goes with a SingleDelete, which vanishes together with its key
// already when the memtable is flushed. A row counts its writes so that this is known.
// Nothing ever seeks to the head of a prefix that is consumed from its head: what is due
// is known by queue.Schedule, in memory, rebuilt from the rows when the store is
// opened; scans begin at the oldest ID that is there, or at the journal's low-water mark.
//
// # Durability
//
// nil from Insert, Commit and SetCell means that the write-ahead log is synced up to
// and with that step. Each of them is ONE Pebble batch, so it is there as a whole or not at all.
// Concurrent steps share a sync. The order in which rows are checked and journal numbers are
// given is the order of the log (Store.order), so a crash keeps a prefix of it:
// there is no gap in the journal, and the last envelope of a message cannot go before another.
// Readers of the journal see only what is synced.
//
// A body of more than one chunk is written ahead, unsynced, under an o key, which
// goes in the batch that makes the message ours. When the store is opened, bodies
// that still have an o key are removed. The same key is used when a message goes
// whose body is being read: its chunks are removed by the last reader, or at the next open.
//
// An error of the log cannot be repaired by trying again: the process ends with code 3
// (Options.Fatal) and finds out at the next start what was synced.
package pebblestore
