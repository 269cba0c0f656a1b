package pebblestore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The file of notes says what nothing else on the disk does: which logs were begun, so that one
// that is gone is missed, and what the file of options holds, which has no checksum. It has
// two halves, which say the same and are written in place, one after the other: a write
// that power or process does not live to end spoils one of them, and none needs space on a full disk.
const (
	notesName = "files.note"
	notesHalf = 4096
	notesHead = "sealpost notes 1"
	notesLogs = 128 // at most; the newest
)

// noted is what a half says.
type noted struct {
	turn    uint64 // grows with each write
	logs    []notedLog
	options string // a file
	sum     string // of it
}

// notedLog is a log that was begun. size is how many octets it has at least: it was closed.
type notedLog struct {
	name string
	size int64
}

// encode makes a half: text, room, and a sum of both.
func (n *noted) encode() []byte {
	slices.SortFunc(n.logs, func(a, b notedLog) int { return strings.Compare(a.name, b.name) }) // by age
	b := make([]byte, 0, notesHalf)
	b = fmt.Appendf(b, "%s\nturn %d\noptions %s %s\n", notesHead, n.turn, n.options, n.sum)
	for _, l := range n.logs[max(0, len(n.logs)-notesLogs):] {
		b = fmt.Appendf(b, "log %s %d\n", l.name, l.size)
	}
	b = append(b, make([]byte, notesHalf-sha256.Size-len(b))...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decodeHalf reads a half; ok is false when it is not as it was written.
func decodeHalf(b []byte) (n noted, ok bool) {
	if len(b) != notesHalf {
		return n, false
	}
	text, sum := b[:notesHalf-sha256.Size], b[notesHalf-sha256.Size:]
	if want := sha256.Sum256(text); !bytes.Equal(sum, want[:]) {
		return n, false
	}
	lines := strings.Split(string(bytes.TrimRight(text, "\x00")), "\n")
	if lines[0] != notesHead {
		return n, false
	}
	for _, line := range lines[1:] {
		var l notedLog
		switch word, rest, _ := strings.Cut(line, " "); word { // that it is whole its sum says
		case "turn":
			_, _ = fmt.Sscan(rest, &n.turn)
		case "options":
			n.options, n.sum, _ = strings.Cut(rest, " ")
		case "log":
			_, _ = fmt.Sscan(rest, &l.name, &l.size)
			n.logs = append(n.logs, l)
		}
	}
	return n, true
}

// decodeNotes reads the file: the newer half that is good, and how many are not.
func decodeNotes(b []byte) (n noted, bad int) {
	for at := range 2 {
		half, ok := decodeHalf(b[min(at*notesHalf, len(b)):min((at+1)*notesHalf, len(b))])
		if !ok {
			bad++
		} else if half.turn >= n.turn {
			n = half
		}
	}
	return n, bad
}

// notes keeps the file. What it cannot write is logged and else does no harm: a log that is
// gone would not be missed then. Its methods are safe for concurrent use.
type notes struct {
	fs  vfs.FS
	dir string
	log logger

	mu    sync.Mutex
	now   noted
	begun map[string]bool // logs whose names may not be durable yet
	file  vfs.File
	quiet bool // that it cannot be written was told
}

func newNotes(o *Options, log logger) *notes {
	return &notes{fs: o.fs, dir: o.Dir, log: log, begun: make(map[string]bool)}
}

// follow goes on from what the file says and the logs that are there.
func (n *notes) follow(said noted) error {
	names, err := n.fs.List(n.dir)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.now = said
	n.now.logs = nil
	for _, name := range names {
		if isLog(name) {
			n.now.logs = append(n.now.logs, notedLog{name: name})
		}
	}
	return nil
}

// begin is told of a log that was made, of an old one unless that is "".
func (n *notes) begin(from, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop(from)
	n.begun[name] = true
}

// end is told of a log that was removed.
func (n *notes) end(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop(name)
}

func (n *notes) drop(name string) {
	delete(n.begun, name)
	n.now.logs = slices.DeleteFunc(n.now.logs, func(l notedLog) bool { return l.name == name })
}

// closed is told of a log to which nothing more is written, and how much was. The next write
// has it.
func (n *notes) closed(name string, size int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.now.logs {
		if n.now.logs[i].name == name {
			n.now.logs[i].size = size
		}
	}
}

// synced syncs the directory, and then notes the logs that were begun before: their names are
// durable now, and nothing that stands in them was acknowledged yet.
func (n *notes) synced(sync func() error) error {
	n.mu.Lock()
	if len(n.begun) == 0 {
		n.mu.Unlock()
		return sync()
	}
	defer n.mu.Unlock() // who begins a log waits for this: its next sync must not come to nothing
	if err := sync(); err != nil {
		return err
	}
	for name := range n.begun {
		n.now.logs = append(n.now.logs, notedLog{name: name})
	}
	clear(n.begun)
	n.write()
	return nil
}

// setOptions notes what the newest file of options holds.
func (n *notes) setOptions() {
	names, err := n.fs.List(n.dir)
	name := newestOptions(names)
	var b []byte
	if err == nil {
		b, err = readAll(n.fs, n.fs.PathJoin(n.dir, name))
	}
	if err != nil {
		n.log.Errorf("what the options are is not noted: %v", err)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.now.options, n.now.sum = name, sumOf(b)
	n.write()
}

// write writes both halves. Under mu.
func (n *notes) write() {
	n.now.turn++
	err := n.put(n.now.encode())
	if err != nil && !n.quiet {
		n.log.Errorf("%s cannot be written: a log that is gone would not be missed: %v", notesName, err)
	}
	n.quiet = err != nil
}

func (n *notes) put(half []byte) error {
	fresh := false
	if n.file == nil {
		path := n.fs.PathJoin(n.dir, notesName)
		_, err := n.fs.Stat(path)
		fresh = errors.Is(err, fs.ErrNotExist)
		if n.file, err = n.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified); err != nil {
			n.file = nil
			return err
		}
	}
	if _, err := n.file.WriteAt(half, 0); err != nil {
		return err
	}
	if err := n.file.SyncData(); err != nil {
		return err
	}
	// The other one is synced with the next write: it says the same, or what was before.
	if _, err := n.file.WriteAt(half, notesHalf); err != nil {
		return err
	}
	if !fresh {
		return nil
	}
	return errors.Join(n.file.Sync(), syncFS(n.fs, n.dir))
}

// close notes how long the last log is.
func (n *notes) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file == nil {
		return nil
	}
	n.write()
	err := errors.Join(n.file.Sync(), n.file.Close())
	n.file = nil
	return err
}

// newestOptions is the file of options that counts; "": none.
func newestOptions(names []string) (newest string) {
	for _, name := range names {
		if strings.HasPrefix(name, "OPTIONS-") {
			newest = max(newest, name) // numbers of one width
		}
	}
	return newest
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func readAll(disk vfs.FS, path string) ([]byte, error) {
	f, err := disk.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}
