package pebblestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
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
func (x *examination) run(po *pebble.Options) error {
	if err := x.marker(po.FormatMajorVersion.String()); err != nil {
		return err
	}
	desc, err := pebble.Peek(x.dir, x.fs)
	if err != nil || !desc.Exists {
		return nil // there is nothing yet, or Pebble will say better what is wrong
	}
	if err := x.options(po, desc.OptionsFilename); err != nil {
		return err
	}
	if err := x.manifest(filepath.Base(desc.ManifestFilename)); err != nil {
		return err
	}
	names, err := x.fs.List(x.dir)
	if err != nil {
		return err
	}
	slices.Sort(names) // numbers of one width: by age
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
	f, err := x.fs.Open(x.path(name))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// options sets a file of options aside that cannot be read, or are not ours: Pebble only
// compares them with those that it is given, and writes new ones.
func (x *examination) options(po *pebble.Options, path string) error {
	if path == "" {
		return nil
	}
	name := filepath.Base(path)
	text, err := x.load(name)
	if err != nil {
		return err
	}
	po = po.Clone()
	po.EnsureDefaults()
	if err := po.CheckCompatibility(x.dir, string(text)); err == nil {
		return nil
	}
	if err := x.aside(name, text); err != nil {
		return err
	}
	x.log.note(Damage{File: name, What: "options that cannot be read: written anew", Mended: true})
	return x.fs.Remove(x.path(name))
}

// manifest mends the list of tables, from its copy where it must be.
func (x *examination) manifest(name string) error {
	before, err := x.load(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r := &chunked{data: slices.Clone(before), check: x.check}
	r.read()
	if lost, ok := r.lost(); ok || len(r.records) == 0 {
		twin, err := x.list(twinPrefix + name)
		if err != nil {
			twin = &chunked{}
		}
		_, bad := twin.lost()
		switch {
		case !bad && len(twin.records) > len(r.records):
			x.log.note(Damage{File: name, What: fmt.Sprintf("the list of tables was damaged at octet %d, or gone: it is restored from its copy", lost.from), Mended: true})
			r = twin
		case ok && lost.to == len(before):
			// As it is when power failed while it was written; the log has the rest then.
			x.log.note(Damage{File: name, What: fmt.Sprintf("ends in a record that is not whole, at %d: ordinary when the power failed", lost.from), Mended: true})
		default:
			return fmt.Errorf("the list of tables %s is gone, or damaged from octet %d to %d, its copy too, and without it the tables are not known: "+
				"nothing was changed: restore the queue from a backup", x.path(name), lost.from, lost.to)
		}
	}
	for _, w := range r.wrong {
		if w.mended >= 0 {
			x.log.note(Damage{File: name, What: fmt.Sprintf("the octet at %d was wrong and is put right", w.mended), Mended: true})
		}
	}
	if slices.Equal(before, r.data) {
		return nil
	}
	return x.replace(name, before, func(w io.Writer) error {
		_, err := w.Write(r.data)
		return err
	})
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
		return x.replace(name, before, func(w io.Writer) error {
			_, err := w.Write(r.data)
			return err
		})
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
	return x.write(x.path(asideDir, name), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
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
	temp := x.path(name + ".mended")
	if err := x.write(temp, fill); err != nil {
		return err
	}
	if err := x.fs.Rename(temp, x.path(name)); err != nil {
		return err
	}
	d, err := x.fs.OpenDir(x.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
