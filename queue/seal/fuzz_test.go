package seal

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/sealpost/sealpost/queue"
)

const fuzzID = queue.ID("01ARZ3NDEKTSV4RRFFQ69G5FAV")

// FuzzValue: no octets make a decoder panic, and none open that were not sealed.
func FuzzValue(f *testing.F) {
	key := bytes.Repeat([]byte{7}, keySize)
	aead := newAEAD(key)
	day := &tree{nodes: make([]treeNode, 1)} // the same one in every process
	leaf, _ := day.leaf(leafOf(string(fuzzID)))
	record := sealRecord(aead, fuzzID, recordParts{make([]byte, wrapSize), make([]byte, nonceSize), make([]byte, tagSize), []byte("record")})
	row := queue.Row{Message: fuzzID, Number: 3, Lane: "a.example", Data: []byte("data")}
	sealed := sealRow(aead, &row, nil, make([]byte, nonceSize))
	own := sealRow(aead, &row, make([]byte, wrapSize), make([]byte, nonceSize))
	entry := sealEntry(&leaf, entryParts{20261127, string(fuzzID), make([]byte, nonceSize), []byte("entry")})
	names := newNamer(key)
	cell := sealCell(names, cellParts{"x/~1", "x/1", make([]byte, nonceSize), []byte("value")})
	good := [][]byte{record, sealed, own, entry, cell}
	for _, b := range good {
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte{})
	f.Add([]byte{version})
	f.Fuzz(func(t *testing.T, b []byte) {
		made := false
		for _, g := range good {
			made = made || bytes.Equal(b, g)
		}
		var opened []string
		if _, _, err := openRecord(aead, fuzzID, b); err == nil {
			opened = append(opened, "record")
		}
		r := queue.Row{Message: fuzzID, Number: 3, Data: b}
		if err := openRow(aead, &r); err == nil {
			opened = append(opened, "row")
		}
		if _, err := openEntry(func(uint64) *tree { return day }, b); err == nil {
			opened = append(opened, "entry")
		}
		if _, _, err := (&Store{names: names}).openCell("x/~1", b); err == nil {
			opened = append(opened, "cell")
		} else if !typed(err) {
			t.Errorf("cell: %v", err)
		}
		if _, err := wrappedKey(b); err == nil && len(b) < recordHead {
			t.Error("a wrapped key in a record that is too short")
		}
		if made != (len(opened) == 1) {
			t.Fatalf("%x opens as %v", b, opened)
		}
	})
}

// FuzzFrames seals a body, read in whatever pieces, and changes it.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("body"), uint16(3), uint32(0), uint8(0))
	f.Add([]byte{}, uint16(0), uint32(0), uint8(1))
	f.Add([]byte("0123456789"), uint16(13000), uint32(70000), uint8(9))
	f.Add([]byte("0123456789abcdef"), uint16(4096), uint32(65536), uint8(1))
	f.Fuzz(func(t *testing.T, piece []byte, times uint16, at uint32, change uint8) {
		if len(piece) > 64 {
			piece = piece[:64]
		}
		body := bytes.Repeat(piece, int(times))
		pool := &buffers{}
		aead := newAEAD(make([]byte, keySize))
		var r io.Reader = bytes.NewReader(body)
		switch change % 3 {
		case 1:
			r = iotest.DataErrReader(r)
		case 2:
			r = iotest.HalfReader(r)
		}
		s := &sealer{ctx: t.Context(), r: r, aead: aead, id: fuzzID, pool: pool}
		defer s.release()
		sealed, err := io.ReadAll(s)
		if err != nil || len(sealed) != len(body) || s.size != int64(len(body)) || len(s.tags) != tagSize*frames(s.size) {
			t.Fatalf("%d octets became %d, with %d of tags: %v", len(body), len(sealed), len(s.tags), err)
		}
		if len(sealed) > 0 {
			sealed[int(at)%len(sealed)] ^= change
		}
		same := change == 0 || len(sealed) == 0
		o, err := newOpener(bytesBody{bytes.NewReader(sealed)}, &secret{aead: aead, tags: s.tags}, fuzzID)
		if err != nil {
			t.Fatal(err)
		}
		o.pool = pool
		got, err := io.ReadAll(o)
		if same != (err == nil) || !bytes.HasPrefix(body, got) || same && len(got) != len(body) {
			t.Fatalf("same %v: %d of %d octets, %v", same, len(got), len(body), err)
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("error %v", err)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
}

type bytesBody struct{ *bytes.Reader }

func (bytesBody) Close() error { return nil }

// FuzzKeyFile: what is no key file is an error.
func FuzzKeyFile(f *testing.F) {
	wrap := newAEAD(make([]byte, keySize))
	epoch := sealFile(&meta{kind: kindEpoch, id: 5, kek: 1}, wrap, make([]byte, nonceSize), make([]byte, keySize))
	kek := sealFile(&meta{kind: kindKEK, id: 1}, nil, nil, make([]byte, keySize))
	f.Add(epoch)
	f.Add(kek)
	f.Add(make([]byte, 200))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		payload, err2 := openFile(b, wrap)
		if err2 == nil && (err != nil || len(payload) != keySize && m.kind == kindKEK) {
			t.Errorf("opens as %v, %v", m, err)
		}
		if err2 == nil && !bytes.Equal(b, epoch) && m.kind != kindKEK {
			t.Error("opens and was never made")
		}
	})
}
