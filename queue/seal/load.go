package seal

import (
	"errors"
	"fmt"
	"strings"
)

// found is what a key directory holds.
type found struct {
	files map[string][]byte // by name of a key file; the newest generation of each
	metas map[string]meta
	trash []string // what a crash left half made or half destroyed
	// damaged tells of files that say nothing, and without which the rest can go on.
	damaged []error
}

// needed reports whether nothing goes without a key file.
func needed(name string) bool {
	return strings.HasPrefix(name, kindKEK.String()+"-") || strings.HasPrefix(name, kindRoot.String()+"-")
}

// readKeys reads all files of a directory.
func readKeys(d *keyDir) (*found, error) {
	names, err := d.disk.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("seal: key directory: %w", err)
	}
	f := &found{files: make(map[string][]byte), metas: make(map[string]meta)}
	tables := make(map[string]bool)
	newest := make(map[string]string) // word-id -> name
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, suffixTemp), strings.HasSuffix(name, suffixDead):
			f.trash = append(f.trash, name)
			continue
		case strings.HasPrefix(name, tableWord+"-"):
			tables[name] = true
			continue
		case !strings.HasSuffix(name, suffixKey):
			continue // lock, and what others put here
		}
		content, err := d.read(name)
		if err != nil {
			return nil, err
		}
		m, err := decodeMeta(content)
		switch {
		case errors.Is(err, errZeroed):
			f.trash = append(f.trash, name)
			continue
		case err != nil && needed(name):
			return nil, fmt.Errorf("seal: key file %s: %w: put it back as it was (mail that waits needs it)", d.at(name), err)
		case err != nil:
			f.damaged = append(f.damaged, fmt.Errorf("seal: key file %s: %w: put it back as it was, if you can", d.at(name), err))
			continue
		case m.name() != name:
			return nil, fmt.Errorf("seal: key file %s is %s by what it holds: give it its name back", d.at(name), m.name())
		}
		thing := fmt.Sprint(m.kind, "-", m.id)
		if other, ok := newest[thing]; ok {
			// A crash after the newer one was written.
			if f.metas[other].gen > m.gen {
				f.trash = append(f.trash, name)
				continue
			}
			f.trash = append(f.trash, other)
			clear(f.files[other])
			delete(f.files, other)
			delete(f.metas, other)
		}
		newest[thing] = name
		f.files[name], f.metas[name] = content, m
	}
	f.leftTables(tables)
	return f, nil
}

// leftTables finds the tables without a key.
func (f *found) leftTables(tables map[string]bool) {
	for _, m := range f.metas {
		if m.kind == kindCarry {
			delete(tables, tableName(m.id))
		}
	}
	for name := range tables {
		f.trash = append(f.trash, name)
	}
}

// adopt takes what was found into the ring.
func (r *Ring) adopt(f *found) error {
	for _, err := range f.damaged {
		r.o.Logger.Error("what it seals cannot be read", "err", err)
	}
	for name, m := range f.metas {
		if m.kind != kindKEK {
			continue
		}
		key, err := openFile(f.files[name], nil)
		if err != nil {
			return fmt.Errorf("seal: key file %s: %w: put it back as it was", r.dir.at(name), err)
		}
		r.keks[m.id] = &kek{meta: m, aead: newAEAD(key)}
		r.active = max(r.active, m.id)
		clear(key)
	}
	for name, m := range f.metas {
		if m.kind == kindKEK {
			clear(f.files[name])
			continue
		}
		k := r.keks[m.kek]
		if k == nil {
			missing := meta{kind: kindKEK, id: m.kek}
			return fmt.Errorf("seal: %s is missing: %s is wrapped by it, and mail in the queue cannot be read without: put it back, or give the right key directory",
				r.dir.at(missing.name()), name)
		}
		payload, err := openFile(f.files[name], k.aead)
		if err == nil {
			err = r.adoptOne(m, payload)
		}
		clear(payload)
		if err != nil {
			err = fmt.Errorf("seal: key file %s: %w: put it back as it was, if you can", r.dir.at(name), err)
		}
		if err != nil && m.kind == kindRoot {
			return err
		}
		if err != nil {
			// The rest must go on; the file stays where it is.
			r.o.Logger.Error("what it seals cannot be read", "err", err)
		}
	}
	if r.root == nil && (len(r.epochs) > 0 || len(r.days) > 0 || len(r.carries) > 0) {
		return fmt.Errorf("seal: the root key file (root-1.N.key) is missing in %s, where other keys are: put it back", r.o.Dir)
	}
	r.sortCarries()
	return nil
}

// adoptOne takes one key.
func (r *Ring) adoptOne(m meta, payload []byte) error {
	switch m.kind {
	case kindRoot:
		root := &root{meta: m}
		if len(payload) != len(root.id)+1+keySize {
			return errNoKeyFile
		}
		copy(root.id[:], payload)
		root.bound = payload[len(root.id)] == 1
		copy(root.secret[:], payload[len(root.id)+1:])
		r.root = root
	case kindEpoch:
		if len(payload) != keySize {
			return errNoKeyFile
		}
		// The count of wraps is of this run; an epoch of an earlier one wraps no more.
		r.lastID = max(r.lastID, m.id)
		r.epochs[m.id] = &epoch{meta: m, aead: newAEAD(payload)}
	case kindCarry:
		c, err := openCarry(&r.dir, m, payload)
		if err != nil {
			return err
		}
		r.lastID = max(r.lastID, m.id)
		r.carries = append(r.carries, c)
	case kindJournal:
		t, err := decodeTree(payload)
		if err != nil {
			return err
		}
		r.days[m.id] = &day{meta: m, tree: t}
	default:
		return errNoKeyFile
	}
	return nil
}
