package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/queue"
)

// TestCredentialsRot: one wrong octet in the file of credentials or in its copy: it is
// named, and all credentials are as they were. What is worse leaves those that can be read; an
// edit by hand counts.
func TestCredentialsRot(t *testing.T) {
	t.Parallel()
	dir, command := stopped(t)
	for _, name := range []string{"shop", "app"} {
		command(0, "user", "add", name, "--sender", "@shop.example", "--rate", "200/s")
	}
	cfg := &config.Config{}
	cfg.Server.DataDir = dir
	want, doubt, err := ownCredentials(cfg)
	if err != nil || doubt != "" || len(want) != 2 {
		t.Fatalf("%+v, %q, %v", want, doubt, err)
	}
	path, spare := credentialsFile(cfg), credentialsCopy(cfg)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(path string, text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// check reads them with that text in a file, and puts it back.
	check := func(what, path string, text []byte, names string) {
		t.Helper()
		put(path, text)
		defer put(path, whole)
		got, doubt, err := ownCredentials(cfg)
		if err != nil || !reflect.DeepEqual(got, want) || !strings.Contains(doubt, names) || names == "" && doubt != "" {
			t.Fatalf("%s: %d credentials, it says %q, %v", what, len(got), doubt, err)
		}
	}
	for at := 0; at < len(whole); at += 5 {
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8)
		check("one octet", path, b, path)
		if at%20 == 0 {
			check("one octet", spare, b, spare)
		}
	}
	check("the second half is noise", path, append(bytes.Clone(whole[:len(whole)/2]), sumLine...), path)
	check("an empty copy", spare, nil, spare)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("", spare, whole, path+" is missing")
	put(path, whole)
	// An edit: without the last line it counts, with it it is doubted, and used where it can be.
	text, _, _ := bytes.Cut(whole, []byte(sumLine))
	text = bytes.Replace(text, []byte("@shop.example"), []byte("@other.example"), 1)
	for _, edit := range [][]byte{text, append(bytes.Clone(text), whole[bytes.Index(whole, []byte(sumLine)):]...)} {
		put(path, edit)
		got, doubt, err := ownCredentials(cfg)
		if err != nil || len(got) != 2 || got[0].Senders[0] != "@other.example" || bytes.Contains(edit, []byte(sumLine)) != strings.Contains(doubt, "edited") {
			t.Errorf("an edit: %+v, %q, %v", got, doubt, err)
		}
	}
	// With both damaged, what can be read is used.
	put(spare, []byte("rot"))
	if got, doubt, err := ownCredentials(cfg); err != nil || len(got) != 2 || !strings.Contains(doubt, spare) {
		t.Errorf("both: %+v, %q, %v", got, doubt, err)
	}
	// The next command writes both anew.
	command(0, "user", "passwd", "app")
	if _, doubt, err := ownCredentials(cfg); err != nil || doubt != "" {
		t.Errorf("written anew: %q, %v", doubt, err)
	}
}

// TestRotBesideTheStore: a wrong octet in any file that the relay keeps beside the store itself,
// near its beginning and its end: the file is named, and all mail, the journal and the
// credentials are there.
func TestRotBesideTheStore(t *testing.T) {
	t.Parallel()
	dir, command := stopped(t)
	command(0, "user", "add", "app")
	command(0, "keys", "rotate")                                              // and the key of the journal is made
	if err := os.Remove(filepath.Join(dir, "queue", "ballast")); err != nil { // large, and made anew
		t.Fatal(err)
	}
	var names []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && e.Name() == "queue" {
			return fs.SkipDir
		}
		if info, e2 := e.Info(); err == nil && e2 == nil && info.Mode().IsRegular() && info.Size() > 0 {
			names = append(names, strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil || len(names) < 8 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		for _, at := range []int{5, 40, -12} { // the middle of a key file is the space between its copies
			rotten := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(rotten, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			err := filepath.WalkDir(rotten, func(path string, _ fs.DirEntry, err error) error { return errors.Join(err, os.Chmod(path, 0o700)) })
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(rotten, name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			at = (at + len(b)) % len(b)
			b[at] ^= 0x20
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if said, err := readRotten(t, rotten); err != nil || !strings.Contains(said, filepath.Base(name)) {
				t.Errorf("%s, octet %d of %d: %v, it says %q", name, at, len(b), err, said)
			}
		}
	}
}

// readRotten reads all mail, the journal and the credentials of a data directory, and returns
// what was said about it. An error when something is missing.
func readRotten(t *testing.T, dir string) (said string, err error) {
	t.Helper()
	cfg, err := config.Parse("", []byte("[server]\nhostname = \"relay.example\"\ndata_dir = '"+dir+"'\n"), nil)
	if err != nil {
		return "", err
	}
	var log bytes.Buffer
	v, err := openVault(cfg, vaultOptions{seams: seams{log: slog.New(slog.NewTextHandler(&log, nil))}})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	creds, err := credentials(cfg, func(problem string) { log.WriteString(problem) })
	if err != nil || len(creds) != 1 {
		return log.String(), errors.Join(err, errors.New("credentials are missing"))
	}
	waiting := 0
	err = v.store.Scan(t.Context(), queue.ScanQuery{Kind: queue.ScanRows}, func(it queue.Item) error {
		waiting++
		body, err := v.store.Body(t.Context(), it.Row.Message)
		if err != nil {
			return err
		}
		return errors.Join(it.Row.Damage, body.Close())
	})
	if err != nil || waiting != 2 {
		return log.String(), errors.Join(err, errors.New("mail is missing"))
	}
	delivered := 0
	err = queue.Audit(t.Context(), v.store, queue.AuditFilter{}, func(queue.AuditLine) error { delivered++; return nil })
	if err != nil || delivered != 2 {
		return log.String(), errors.Join(err, errors.New("entries are missing"))
	}
	return log.String(), nil
}

const someHash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"

// What a crash or a full disk leaves of credentials.toml, nothing, zeros or its beginning, is
// replaced by its copy; the list of an operator who took entries out counts.
func TestCredentialsCut(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Server.DataDir = t.TempDir()
	var list []config.Credential
	for _, name := range []string{"one", "two", "three"} {
		list = append(list, config.Credential{Name: name, PasswordHash: someHash, Senders: []string{"@shop.example"}})
	}
	if err := writeCredentials(cfg, list); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(credentialsFile(cfg))
	if err != nil {
		t.Fatal(err)
	}
	second := bytes.LastIndex(whole, []byte("[[credential]]"))
	for _, tt := range []struct {
		name string
		text []byte
		want int
		say  bool
	}{
		{"empty", nil, 3, true},
		{"zeros", make([]byte, len(whole)), 3, true},
		{"half an entry", whole[:second+20], 3, true},
		{"all but the last octets", whole[:len(whole)-5], 3, true},
		{"an edit: the last entry and the sum are gone", whole[:second], 2, false},
	} {
		if err := os.WriteFile(credentialsFile(cfg), tt.text, 0o600); err != nil {
			t.Fatal(err)
		}
		own, doubt, err := ownCredentials(cfg)
		if err != nil || len(own) != tt.want || tt.say != (doubt != "") {
			t.Errorf("%s: %d credentials, %q, %v; want %d", tt.name, len(own), doubt, err, tt.want)
		}
	}
}

// Who adds credentials at the same time as others adds to theirs.
func TestCredentialsAtOnce(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Server.DataDir = t.TempDir()
	var crew sync.WaitGroup
	for i := range 12 {
		crew.Go(func() {
			if err := putCredential(cfg, config.Credential{Name: fmt.Sprint("app", i), PasswordHash: someHash}, false); err != nil {
				t.Error(err)
			}
		})
	}
	crew.Wait()
	own, doubt, err := ownCredentials(cfg)
	if err != nil || doubt != "" || len(own) != 12 {
		t.Errorf("%d credentials, %q, %v", len(own), doubt, err)
	}
	if err := putCredential(cfg, config.Credential{Name: "app3", PasswordHash: someHash}, false); err == nil {
		t.Error("a credential that is there was added")
	}
}
