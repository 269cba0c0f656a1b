// Package seal is encryption at rest, and the destruction of keys: a queue.Store in
// front of any other, so that it is written once for all of them.
//
// The problem: a relay keeps other people's mail for seconds or for days, and what it
// deletes stays: in a log-structured store's old tables, in its write-ahead log, in a backup, in
// the free space of the disk. Overwriting all of that is not possible. So nothing is
// written that opens without a key, and the keys are kept apart, in small files, where they
// can be destroyed.
//
// # Keys
//
//	key       one for each                lives in          wrapped by    is destroyed
//	kek       rotation                    kek-N.0.key       nothing       by the rotation after it
//	root      store                       root-1.G.key      kek           never
//	epoch     slice (a third of Delay)    epoch-T.G.key     kek           when two slices old
//	message   message                     its own record    epoch         with its epoch, unless it waits
//	(carry)   sweep with waiting mail     carry-T.G.key     kek           by the next sweep
//	journal   day                         journal-DAY.G.key kek           after Retention; single ones by EraseEntries
//
// A message's key is random, seals its record, its rows and the frames of its body, and
// lies in its record, wrapped by the epoch in which the message was accepted. Once in a slice
// the store sweeps: it looks which messages are there, copies the keys of those whose
// epoch is two slices old, or that are in the table before, into a new table
// (table-T.keys, sealed by the carry key), and then destroys those epochs and that table. So
// no key of a message that is gone lives for longer than Delay, and a message that
// waits for days costs 62 octets of sequential writing in a slice. Nothing of a message is written
// again. The hot path has no sync of its own: an epoch's file is made when it begins.
//
// The journal entries of a message on a day are sealed by a leaf of that day's tree of keys
// (tree.go), which can lose one leaf and keep all others; an entry about no message has a leaf
// of its own (person.go).
//
// Lanes and names of cells are keyed hashes (HMAC-SHA-256 under the root, 128 bits); the
// class of a cell, up to the first slash, stays. Fairness classes are enciphered, equal ones to
// equal ones. What stays open: message IDs (with the time of acceptance), sizes, due times,
// states, days of journal entries.
//
// docs/adr/0012-erasure.md says what this does against whom, and what it does not.
//
// # Forms
//
// A sealed value begins with the version, F9; a value that begins with an octet below F8 is plain,
// from before sealing. Numbers are big-endian, "+" is concatenation, ID is the 26 characters,
// AEAD is AES-256-GCM with a tag of 16 octets. testdata/vectors.txt has an example of each.
//
//	wrapped  epoch(8) nonce(12) AEAD(epoch key, nonce, message key, "K" + ID + number(4))
//	         number is FFFFFFFF for a message, a row's number for a row's own key
//	record   F9 'R' wrapped(68) nonce(12) AEAD(message key, nonce, uvarint(frames) + tags + record,
//	         all before + ID + 0(4)); nonce[0] is 'R', the rest is random
//	row      F9 'r' nonce(12) AEAD(message key, nonce, uvarint(len(lane)) + lane + data,
//	         all before + ID + number(4)); nonce[0] is 'r'
//	         F9 'o' wrapped(68) nonce(12) AEAD(...): a row of a plain message, rewritten;
//	         nonce[0] is 'o'
//	body     frames of 65,536 octets, the last one shorter or as long; an empty body is one
//	         empty frame. Frame n is AEAD(message key, 'B' 0(3) n(8), octets, 'B' + ID + n(4) + last)
//	         without its tag, which is in the record; last is 1 for the last frame. So a
//	         sealed body is exactly as long as the body.
//	entry    F9 'j' day(4, as 20261127) len(1) name nonce(12) AEAD(leaf, nonce, entry, all before the
//	         nonce); name is the message's ID, or "~" and 22 random characters (or nothing, at first)
//	cell     F9 'c' nonce(12) AEAD(cell key, nonce, uvarint(len(name)) + name + value, "c" + stored);
//	         stored is class + "~" + base64url(HMAC(root, "cell" 0 + name)[:16]), cell
//	         key is HMAC(root, "cell key" 0 + stored)
//	lane     "~" + base64url(HMAC(root, "lane" 0 + domain)[:16])
//	group    AES-256(HMAC(root, "group key" 0), len(1) + class + zeros), one block; of a class above 15
//	         octets it is HMAC(root, "group" 0 + class)[:15]
//	leaf     12 steps down from the day's root: key = SHA-256(key + step(1) + "seal tree"), the steps
//	         are the first 12 half-octets of SHA-256(name)
//	key file two copies of a key with 8 octets of its SHA-256 behind, the second at the next multiple of 4,096
//	key      "SEALKEY" 01 kind(1) id(8) generation(4) created(8) kek(8) nonce(12)
//	         AEAD(kek, nonce, payload, all before the nonce); of a KEK: nonce of 0, the key, and the first 8
//	         octets of SHA-256 of all before
//	table    blocks of 128 entries ID number(4) key(32), by name; block n is AEAD(carry
//	         key, 'B' 0(3) n(8), entries, nothing)
//
// # Guarantees
//
//  1. nil means what it means in the store behind: every method is one call of it.
//  2. A value that was changed, cut, moved to another message or taken from another place of
//     the same message does not open: a *Damage names message and thing, the rest goes on. A
//     row that is claimed and does not open waits as held for an hour, in nobody's way.
//     No octet of a frame is given out before the frame has opened. (Not seen here: an older
//     version of a row in the place of a newer one, an entry left out of the journal or moved in
//     it. The journal's chain of hashes shows the latter.)
//  3. A key file is used only when it and its name are synced. A crash at any step leaves a
//     directory that opens, with every key that was acknowledged.
//  4. A key of a waiting message is never destroyed: when a sweep cannot read the store through,
//     or cannot write, it destroys nothing and tries again, and Ring.Overdue tells.
//  5. Keys of messages that are gone are overwritten, synced and removed within Delay, while
//     the process runs; those that became overdue while it did not go at the next start.
//
// Standards: NIST SP 800-38D (8.2.1 counters for frames, 8.2.2 and 8.3 random nonces, fewer than
// 2^32 under a key), FIPS 180-4, RFC 2104.
package seal
