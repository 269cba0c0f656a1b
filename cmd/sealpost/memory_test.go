package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/relay/httpapi"
)

// memories are a relay's memories of given entries.
type memories struct{ now time.Time }

type policyMemories struct{ memories }

func (m memories) List(_ context.Context, fn func(httpapi.RememberedHost) error) error {
	for _, h := range []httpapi.RememberedHost{
		{Host: "mx1.example.org", Family: "ipv4", Memory: policy.Memory{Best: policy.DANE, Last: policy.DANE, LastSeen: m.now.Add(-2 * time.Hour), Good: 12}},
		{Host: "mx2.example.org", Family: "ipv6", Memory: policy.Memory{BrokenUntil: m.now.Add(time.Hour), DownUntil: m.now.Add(10 * time.Minute), ClassicalUntil: m.now.Add(-time.Hour)}},
	} {
		if err := fn(h); err != nil {
			return err
		}
	}
	return nil
}

func (m memories) Forget(_ context.Context, host policy.Domain) (bool, error) {
	return host == "mx1.example.org", nil
}

func (m policyMemories) List(_ context.Context, fn func(httpapi.RememberedPolicy) error) error {
	return fn(httpapi.RememberedPolicy{Domain: "example.org", STS: policy.STS{
		Mode: policy.STSEnforce, MX: []string{"mx1.example.org", "*.example.net"}, Fetched: m.now.Add(-3 * time.Hour), Expires: m.now.Add(5*24*time.Hour + time.Minute), Problem: "no reply"}})
}

func (m policyMemories) Forget(_ context.Context, domain policy.Domain) (bool, error) {
	return domain == "example.org", nil
}

func TestMemoryCommands(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sealpost") // not t.TempDir: too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "sealpost.toml")
	text := fmt.Sprintf("[server]\nhostname = \"relay.example.com\"\ndata_dir = %q\n", dir)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := httpapi.ListenSocket(filepath.Join(dir, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	m := memories{time.Now()}
	web := httpapi.New(httpapi.Options{HostMemory: m, PolicyMemory: policyMemories{m}})
	done := make(chan error, 1)
	go func() { done <- web.ServeAdmin(l) }()
	t.Cleanup(func() {
		if err := web.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"hosts", []string{"HOST", "mx1.example.org ipv4 dane dane 12 2h", "mx2.example.org ipv6 - - 0 - TLS broken for 59m, not reachable for 9m"}},
		{"hosts --json", []string{`"host":"mx1.example.org"`, `"family":"ipv4"`, `"best":"dane"`}},
		{"policies", []string{"DOMAIN", "example.org enforce 3h 5d mx1.example.org *.example.net (not renewed: no reply)"}},
		{"policies --json", []string{`"domain":"example.org"`, `"mode":"enforce"`}},
		{"forget MX1.example.org.", []string{"forgotten: the host mx1.example.org"}},
		{"forget example.org", []string{"forgotten: the MTA-STS policy of example.org"}},
		{"forget other.example", []string{"nothing is remembered under other.example"}},
		{"forget example.org --json", []string{`"policy":true`, `"host":false`}},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"memory"}, append(strings.Fields(tt.args), "--config", path)...)
		if code := run(t.Context(), args, streams{out: &out, err: &errs}); code != 0 {
			t.Errorf("%s: exit code %d: %s", tt.args, code, errs.String())
		}
		got := strings.Join(strings.Fields(out.String()), " ")
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is missing in:\n%s", tt.args, want, out.String())
			}
		}
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"memory", "forget", "bad..name", "--config", path}, streams{out: &out, err: &out}); code != exitUsage {
		t.Errorf("a bad name: exit code %d: %s", code, out.String())
	}
}
