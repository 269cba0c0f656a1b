package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A relay that cannot start says why, with the exit code that scripts rely on.
func TestStartUpFailures(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	dir, err := os.MkdirTemp("", "sealpost")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, dataDir, submission, http string
		code                            int
		says                            string
	}{
		{"submission port in use", "a", busy.Addr().String(), "", exitFailed, "address already in use"},
		{"http port in use", "b", "", busy.Addr().String(), exitFailed, "address already in use"},
		{"data_dir is a file", "file", "", "", exitStorage, "storage"},
		{"data_dir cannot be made", "file/below", "", "", exitStorage, "storage"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			submission, http := tt.submission, tt.http
			if submission == "" {
				submission = loopbackPort(0, true)
			}
			if http == "" {
				http = loopbackPort(0, true)
			}
			conf := filepath.Join(dir, "sealpost.toml")
			text := "[server]\nhostname = \"relay.shop.example\"\ndata_dir = \"" + filepath.Join(dir, tt.dataDir) +
				"\"\n[[submission]]\nlisten = \"" + submission + "\"\n[http]\nlisten = \"" + http + "\"\n"
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			code := run(t.Context(), []string{"serve", "--config", conf}, streams{strings.NewReader(""), &out, &errs})
			if code != tt.code || !strings.Contains(errs.String(), tt.says) {
				t.Errorf("exit code %d, want %d; it must say %q:\n%s", code, tt.code, tt.says, errs.String())
			}
		})
	}
}
