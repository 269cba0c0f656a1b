package main

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"strconv"

	"github.com/cockroachdb/pebble/v2"
	"github.com/rogpeppe/go-internal/testscript"
)

// forge NUMBER octets|remove: somebody who can write to the stopped relay's queue
// changes a journal entry, or takes it away.
func (s *scenario) forge(ts *testscript.TestScript, args []string) {
	n, err := strconv.ParseUint(args[0], 10, 64)
	ts.Check(err)
	db, err := pebble.Open(filepath.Join(s.w.dir, "queue"), &pebble.Options{FormatMajorVersion: pebble.FormatTableFormatV6, Logger: silence{ts}})
	ts.Check(err)
	defer func() { ts.Check(db.Close()) }()
	key := binary.BigEndian.AppendUint64([]byte{'j'}, n)
	v, closer, err := db.Get(key)
	ts.Check(err)
	v = bytes.Clone(v)
	ts.Check(closer.Close())
	switch args[1] {
	case "octets":
		v[len(v)-1] ^= 1
		ts.Check(db.Set(key, v, pebble.Sync))
	case "remove":
		ts.Check(db.Delete(key, pebble.Sync))
	default:
		ts.Fatalf("usage: forge NUMBER octets|remove")
	}
}

// silence is a Pebble that says nothing.
type silence struct{ ts *testscript.TestScript }

func (silence) Infof(string, ...any)             {}
func (silence) Errorf(string, ...any)            {}
func (s silence) Fatalf(format string, a ...any) { s.ts.Fatalf(format, a...) }
