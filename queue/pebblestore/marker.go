package pebblestore

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"
)

// markers are the empty files whose names tell Pebble where it stands: which manifest counts,
// and of which format the store is.
const (
	manifestMarker = "manifest"
	formatMarker   = "format-version"
)

// marker puts the markers back that are gone. Without the first one Pebble takes the directory
// for a new store, and removes all that is in it.
func (x *examination) marker(format string) error {
	names, err := x.fs.List(x.dir)
	if err != nil {
		return err
	}
	// What has neither tables nor logs was never used: power failed while it was made.
	if !slices.ContainsFunc(names, func(n string) bool { return isLog(n) || strings.HasSuffix(n, ".sst") }) {
		return nil
	}
	if !marked(names, manifestMarker) {
		name := x.newestManifest(names)
		if name == "" {
			return fmt.Errorf("which list of tables counts is not known (%s is gone), and no list is whole: nothing was changed: restore the queue from a backup",
				x.path("marker."+manifestMarker+".*"))
		}
		if err := x.mark(manifestMarker, name); err != nil {
			return err
		}
	}
	if !marked(names, formatMarker) {
		return x.mark(formatMarker, format)
	}
	return nil
}

func marked(names []string, marker string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "marker."+marker+".") })
}

// mark makes a marker.
func (x *examination) mark(marker, value string) error {
	m, _, err := atomicfs.LocateMarker(x.fs, x.dir, marker)
	if err != nil {
		return err
	}
	if err := m.Move(value); err != nil {
		return err
	}
	x.log.note(Damage{File: "marker." + marker + ".*", What: "was gone: made anew, for " + value, Mended: true})
	return m.Close()
}

// newestManifest is the newest list of tables that is whole, or has a copy that is. One that
// was written and not marked yet says the same as the one before.
func (x *examination) newestManifest(names []string) string {
	var lists []string
	for _, n := range names {
		if n = strings.TrimPrefix(n, twinPrefix); isManifest(n) {
			lists = append(lists, n)
		}
	}
	slices.Sort(lists) // numbers of one width: by age
	for _, n := range slices.Backward(slices.Compact(lists)) {
		for _, file := range []string{n, twinPrefix + n} {
			if r, err := x.list(file); err == nil && len(r.records) > 0 {
				if _, bad := r.lost(); !bad {
					return n
				}
			}
		}
	}
	return ""
}

// list reads a list of tables.
func (x *examination) list(name string) (*chunked, error) {
	data, err := x.load(name)
	if err != nil {
		return nil, err
	}
	r := &chunked{data: data, check: x.check}
	r.read()
	return r, nil
}

// fileIsGone reports whether an error of Pebble's start is about a file that it knows of, and that
// is not there, or not as long as it was.
func fileIsGone(err error) bool {
	said := err.Error() // Pebble has no values for these
	return errors.Is(err, fs.ErrNotExist) || pebble.IsCorruptionError(err) ||
		strings.Contains(said, "unknown to the objstorage provider") || strings.Contains(said, "object size mismatch")
}
