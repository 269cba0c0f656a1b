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
//	b ID chunk(4)          at most 256 KiB of body               once        SingleDelete; DeleteRange from
//	                                                                         the fifth chunk on
//	o ID                   "this body may be an orphan"          seldom      Delete
//	j sequence(8)          C1, time(8), link(32), journal entry  once        DeleteRange
//	t time(8)              first journal sequence from then on,  twice       Delete
//	                       octets until the next t
//	h index(8)             signed head of the journal            once        Delete
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
// From its fifth chunk on a body is a table of its own: written to ID.body, synced, and handed to Pebble (Ingest)
// when it is whole, after a sync of the log, so that no table is there whose o key is not. It goes through neither
// log nor memtable, and is removed as a file, without being read, at most some seconds after its message. A file
// that Pebble does not have yet is removed when the store is opened.
//
// # The journal's chain
//
// link(n) = SHA-256(01 + link(n-1) + n(8) + time(8) + SHA-256(entry)), with the entry as it was
// handed to the store: sealed, so that the chain is checked without a decryption key and bears
// entries that nobody can open any more. The hash of the entry is made outside of Store.order,
// the short link under it. Entries from before the chain (layout 1) have no C1 and no link: a
// value that began so would be of a time before 1970.
//
// A head (queue.Head) names the last entry and its link, the mark below which entries were
// removed with the link before it, and the head before; it is signed with Ed25519. One is written
// when there are 4096 new entries, or any after 30 seconds, when entries are removed (in the
// same batch), and by Close. It is behind its entries in the log, so after a crash it
// names none that is not there. When entries at the end are missing all the same, numbers go on
// behind those that the head knows of.
//
// An error of the log cannot be repaired by trying again: the process ends with code 3
// (Options.Fatal) and finds out at the next start what was synced.
//
// # Damage
//
// What a disk gives back is not always what it was given. Nothing is lost in silence: see
// Store.Damage and the log.
//
//   - One wrong octet in a block of a table, in a log or in the manifest is found by its
//     checksum, which is linear, and put right. Damage of many octets is taken for one once
//     in 2^24/length times; beneath the seal that shows all the same.
//   - A block of a table that is worse: its messages are named, scans go on behind it, a row that
//     cannot be read is set aside until the next start, the rest is delivered. Compactions that
//     fail rest for a minute.
//   - A log with a damaged middle is written anew without those steps, which are named
//     by the messages in them; the old one is kept in the directory "damaged". Pebble would
//     take the damage for the end, and lose in silence what is behind.
//   - The manifest is written twice, and the two are compared when the store is opened. Without
//     either nothing is opened, and nothing changed.
//   - The file of notes ("files.note") names the logs that were begun, and the sum of the file of options.
//     A log is noted when its name is durable and before anything in it is acknowledged; with
//     the manifest, which knows the oldest log that is needed, one that is gone is missed, and nothing is
//     opened. That the notes cannot be written is logged and does no other harm.
//   - A file of options that is not what was written, or cannot be read, is written anew.
//   - The reserve is read in the background, and put right in place.
//
// # A full disk
//
// A reserve ("ballast") as large as all memtables is given up when a log or a flush finds no
// space. From then on no message is taken in, until there is room for a new one; what is
// under way is ended, and deliveries go on and make room. When even that is used
// up the process ends with code 3.
package pebblestore
