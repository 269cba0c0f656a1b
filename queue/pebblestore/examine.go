package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// asideDir is where a damaged file is kept as it was found, below Options.Dir.
const asideDir = "damaged"

// examination looks through the files that Pebble reads only when it opens, before it
// does: it takes a wrong octet for the end of a log or a manifest, or refuses to open.
type examination struct {
	fs    vfs.FS
	dir   string
	log   logger
	check *checker
}

// run mends what can be mended. What cannot, and is needed, is an error.
func (x *examination) run(po *pebble.Options, n *notes) error {
	said := x.notes()
	if err := x.store(po, &said); err != nil {
		return err
	}
	return n.follow(said)
}

func (x *examination) store(po *pebble.Options, said *noted) error {
	if err := x.marker(po.FormatMajorVersion.String()); err != nil {
		return err
	}
	desc, err := pebble.Peek(x.dir, x.fs)
	if err != nil || !desc.Exists {
		return nil // there is nothing yet, or Pebble will say better what is wrong
	}
	names, err := x.fs.List(x.dir)
	if err != nil {
		return err
	}
	slices.Sort(names) // numbers of one width: by age
	if err := x.manifest(filepath.Base(desc.ManifestFilename), names, said); err != nil {
		return err
	}
	if err := x.options(po, newestOptions(names), said); err != nil {
		return err
	}
	logs := slices.DeleteFunc(names, func(n string) bool { return !isLog(n) })
	for i, name := range logs {
		if err := x.wal(name, i == len(logs)-1); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (x *examination) path(parts ...string) string {
	return x.fs.PathJoin(append([]string{x.dir}, parts...)...)
}

func (x *examination) load(name string) ([]byte, error) {
	return readAll(x.fs, x.path(name))
}

// options sets a file of options aside that is not what was written, or cannot be read, or is not
// ours: Pebble only compares it with those that it is given, and writes a new one.
func (x *examination) options(po *pebble.Options, name string, said *noted) error {
	if name < said.options {
		x.log.note(Damage{File: said.options, What: "the options are gone: written anew", Mended: true})
	}
	if name == "" {
		return nil
	}
	text, err := x.load(name)
	if err != nil {
		return err
	}
	po = po.Clone()
	po.EnsureDefaults()
	same := name != said.options || sumOf(text) == said.sum
	if err := po.CheckCompatibility(x.dir, string(text)); err == nil && same {
		return nil
	}
	if err := x.aside(name, text); err != nil {
		return err
	}
	x.log.note(Damage{File: name, What: "options that were changed, or cannot be read: written anew", Mended: true})
	return x.fs.Remove(x.path(name))
}

// wal mends a log, or writes it anew without the records that are lost.
func (x *examination) wal(name string, newest bool) error {
	number, err := strconv.ParseUint(strings.TrimSuffix(name, ".log"), 10, 64)
	if err != nil {
		return nil // none of Pebble's
	}
	data, err := x.load(name)
	if err != nil {
		return err
	}
	before := data
	r := &chunked{data: slices.Clone(data), number: uint32(number), log: true, check: x.check}
	r.read()
	if len(r.wrong) == 0 {
		return nil
	}
	anew, mended := false, false
	for _, w := range r.wrong {
		end := w.to == len(data)
		switch {
		case w.mended >= 0:
			mended = true
			x.log.note(Damage{File: name, What: fmt.Sprintf("the octet at %d was wrong and is put right", w.mended), Mended: true})
		case end && newest:
			x.log.note(Damage{File: name, Messages: messageNames(data[w.from:w.to]), Mended: true,
				What: fmt.Sprintf("ends in a step that is not whole, at %d, and was not taken: ordinary when the power failed or the process was killed in it", w.from)})
		default:
			anew = true
			x.log.note(Damage{File: name, Messages: messageNames(data[w.from:w.to]),
				What: fmt.Sprintf("steps between octet %d and %d cannot be read: unless a table has them already, messages that were accepted in them are lost and those that ended in them come again", w.from, w.to)})
		}
	}
	switch {
	case anew:
		return x.replace(name, before, func(w io.Writer) error { return rewrite(w, r) })
	case mended:
		return x.replace(name, before, octets(r.data))
	}
	return nil
}

// rewrite writes the records that are whole.
func rewrite(w io.Writer, r *chunked) error {
	out := record.NewWriter(w)
	for _, rec := range r.records {
		if _, err := out.WriteRecord(r.payload(rec)); err != nil {
			return err
		}
	}
	return out.Close()
}

// aside keeps what a file held.
func (x *examination) aside(name string, data []byte) error {
	if err := x.fs.MkdirAll(x.path(asideDir), 0o700); err != nil {
		return err
	}
	return x.write(x.path(asideDir, name), octets(data))
}

func (x *examination) write(path string, fill func(io.Writer) error) error {
	f, err := x.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if err := fill(f); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

// replace writes a file anew, in one step, and keeps the old one aside.
func (x *examination) replace(name string, old []byte, fill func(io.Writer) error) error {
	if err := x.aside(name, old); err != nil {
		return err
	}
	return x.publish(name, fill)
}

// publish writes a file anew, in one step.
func (x *examination) publish(name string, fill func(io.Writer) error) error {
	temp := x.path(name + ".mended")
	if err := x.write(temp, fill); err != nil {
		return err
	}
	if err := x.fs.Rename(temp, x.path(name)); err != nil {
		return err
	}
	return syncFS(x.fs, x.dir)
}

func octets(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(bytes.Clone(data)) // vfs may change what it writes
		return err
	}
}
