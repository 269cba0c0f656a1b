package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// manifest mends the list of tables, from its copy where it must be, and then its copy. With a
// log that is gone it fails before anything is changed.
func (x *examination) manifest(name string, names []string, said *noted) error {
	before, err := x.load(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r, own, err := x.choose(name, before)
	if err != nil {
		return err
	}
	if err := x.logsAreThere(r.firstLog(), names, said); err != nil {
		return err
	}
	for _, w := range r.wrong {
		if w.mended >= 0 {
			x.log.note(Damage{File: name, What: fmt.Sprintf("the octet at %d was wrong and is put right", w.mended), Mended: true})
		}
	}
	if !slices.Equal(before, r.data) {
		if err := x.replace(name, before, octets(r.data)); err != nil {
			return err
		}
	}
	if own {
		x.twin(name, r.data)
	}
	x.oldLists(name, names)
	return nil
}

// choose reads a list of tables, or where it is not whole its copy. own: it is the list, whole.
func (x *examination) choose(name string, before []byte) (r *chunked, own bool, err error) {
	r = &chunked{data: slices.Clone(before), check: x.check}
	r.read()
	lost, torn := r.lost()
	if !torn && len(r.records) > 0 {
		return r, true, nil
	}
	twin, err := x.list(twinPrefix + name)
	if err != nil {
		twin = &chunked{}
	}
	_, bad := twin.lost()
	switch {
	case !bad && len(twin.records) > len(r.records):
		x.log.note(Damage{File: name, What: fmt.Sprintf("the list of tables was damaged at octet %d, or gone: it is restored from its copy", lost.from), Mended: true})
		return twin, false, nil
	case torn && lost.to == len(before):
		// As it is when power failed while it was written; the log has the rest then.
		x.log.note(Damage{File: name, What: fmt.Sprintf("ends in a record that is not whole, at %d: ordinary when the power failed", lost.from), Mended: true})
		return r, false, nil
	}
	return nil, false, fmt.Errorf("the list of tables %s is gone, or damaged from octet %d to %d, its copy too, and without it the tables are not known: "+
		"nothing was changed: restore the queue from a backup", x.path(name), lost.from, lost.to)
}

// twin compares the copy of a list with the list, which is whole, and writes it anew when it is
// another. Without it things go on.
func (x *examination) twin(name string, data []byte) {
	file := twinPrefix + name
	was, err := x.load(file)
	at := differAt(was, data)
	d := Damage{File: file, Mended: true}
	switch {
	case err == nil && at == len(data) && at == len(was):
		return
	case errors.Is(err, fs.ErrNotExist):
		d.What = "the copy of the list of tables was gone: written anew"
	case err != nil:
		d.What = fmt.Sprintf("the copy of the list of tables cannot be read: written anew: %v", err)
	case at == len(was):
		d.What = fmt.Sprintf("the copy of the list of tables ends at octet %d, before the list: written anew; ordinary when the process was killed, or the disk was full", at)
	default:
		d.What = fmt.Sprintf("the copy of the list of tables was damaged at octet %d: written anew", at)
	}
	if err := x.publish(file, octets(data)); err != nil {
		d.What, d.Mended = strings.ReplaceAll(d.What, "written anew", "to be written anew"), false
		x.log.Errorf("%s cannot be written: %v", file, err)
	}
	x.log.note(d)
}

// differAt is the first octet in which two files differ; the end of the shorter one when none does.
func differAt(a, b []byte) int {
	n := min(len(a), len(b))
	if bytes.Equal(a[:n], b[:n]) {
		return n
	}
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// oldLists names what is damaged of older lists, which count for nothing any more while there is
// a newer one, and mends it.
func (x *examination) oldLists(current string, names []string) {
	for _, file := range names {
		if name := strings.TrimPrefix(file, twinPrefix); !isManifest(name) || name >= current {
			continue // a newer one may not have been written to its end
		}
		r, err := x.list(file)
		if err != nil || len(r.wrong) == 0 {
			continue
		}
		d := Damage{File: file, What: fmt.Sprintf("an older list of tables, of no use any more, is damaged at octet %d", r.wrong[0].from), Mended: true}
		if _, lost := r.lost(); !lost && x.publish(file, octets(r.data)) == nil {
			d.What = fmt.Sprintf("the octet at %d of an older list of tables was wrong and is put right", r.wrong[0].mended)
		}
		x.log.note(d)
	}
}

// What a record of a list begins with: pairs of a tag and what is set, in this order.
const (
	tagComparer = 1 // its name
	tagLog      = 2 // the oldest log that is needed
)

// firstLog is the oldest log whose steps are not in tables yet.
func (r *chunked) firstLog() (first uint64) {
	for _, rec := range r.records {
		b := r.payload(rec)
		tag, n := binary.Uvarint(b)
		if n > 0 && tag == tagComparer {
			size, m := binary.Uvarint(b[n:])
			if m <= 0 || size > uint64(len(b)-n-m) {
				continue
			}
			b = b[n+m+int(size):]
			tag, n = binary.Uvarint(b)
		}
		if n <= 0 || tag != tagLog {
			continue
		}
		if v, n := binary.Uvarint(b[n:]); n > 0 {
			first = max(first, v)
		}
	}
	return first
}

// logsAreThere fails when a log is gone that was begun and whose steps are not in tables. One that
// was closed and is shorter now is named.
func (x *examination) logsAreThere(first uint64, names []string, said *noted) error {
	for _, l := range said.logs {
		number, err := strconv.ParseUint(strings.TrimSuffix(l.name, ".log"), 10, 64)
		if err != nil || number < first {
			continue
		}
		if !slices.Contains(names, l.name) {
			return fmt.Errorf("a file of the queue is gone: nothing was changed: put %s back, or restore the queue from a backup "+
				"(to go on without what was accepted last and stood only there, remove %s)", x.path(l.name), x.path(notesName))
		}
		if st, err := x.fs.Stat(x.path(l.name)); err == nil && st.Size() < l.size {
			x.log.note(Damage{File: l.name, What: fmt.Sprintf("was cut short: it has %d octets of %d: unless a table has them already, "+
				"messages that were accepted in what is missing are lost and those that ended in it come again", st.Size(), l.size)})
		}
	}
	return nil
}

// look is for who changes nothing: it fails when a log is gone.
func (x *examination) look() error {
	desc, err := pebble.Peek(x.dir, x.fs)
	if err != nil || !desc.Exists {
		return err
	}
	names, err := x.fs.List(x.dir)
	if err != nil {
		return err
	}
	r, err := x.list(filepath.Base(desc.ManifestFilename))
	if err != nil {
		return err
	}
	said := x.notes()
	return x.logsAreThere(r.firstLog(), names, &said)
}

// notes reads the file of notes. Without one nothing was noted.
func (x *examination) notes() noted {
	b, err := x.load(notesName)
	if errors.Is(err, fs.ErrNotExist) {
		return noted{}
	}
	n, bad := decodeNotes(b)
	switch {
	case err != nil || bad == 2:
		x.log.note(Damage{File: notesName, What: "cannot be read: whether a log is gone is not known; written anew", Mended: true})
	case bad == 1:
		x.log.note(Damage{File: notesName, What: "one of its halves is not as it was written: the other is used, and both are written anew", Mended: true})
	}
	return n
}
