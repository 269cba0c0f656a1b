package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy/policytest"
)

// TestRealDeploy asks the programs that the files of deploy/ are for whether they like them.
func TestRealDeploy(t *testing.T) {
	t.Parallel()
	deploy := filepath.Join(moduleRoot(t), "deploy")
	t.Run("sealpost.toml", func(t *testing.T) {
		binary, err := raceBinary()
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(deploy, "sealpost.toml"))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		cert, key := certificate(t, policytest.NewCA(), dir, "relay.example.com")
		here := strings.NewReplacer("/etc/sealpost/tls.crt", cert, "/etc/sealpost/tls.key", key).Replace(string(text))
		run(t, binary, "check-config", write(t, dir, "sealpost.toml", []byte(here)))
	})
	t.Run("unbound.conf", func(t *testing.T) {
		checkconf := part(t, "unbound-checkconf")
		text, err := os.ReadFile(filepath.Join(deploy, "unbound.conf"))
		if err != nil {
			t.Fatal(err)
		}
		// It looks for the installed package's folder and user, which an unpacked one lacks.
		dir := t.TempDir()
		text = fmt.Appendf(text, "server:\n    directory: %q\n    chroot: \"\"\n    username: \"\"\n", dir)
		run(t, checkconf, write(t, dir, "unbound.conf", text))
	})
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %q: %v\n%s", filepath.Base(program), args, err, out)
	}
}
