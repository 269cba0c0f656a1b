package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// modulePath is the prefix of every package of ours.
const modulePath = "github.com/sealpost/sealpost/"

// rank is the height of a room: a package may look down, never up (ARCHITECTURE.md).
var rank = map[string]int{"policy": 0, "queue": 1, "relay": 2, "config": 3, "cmd": 4}

// children are the packages that each room may hold. A new one is added here and to the map in
// ARCHITECTURE.md together.
var children = map[string][]string{
	"policy": {"dnssec", "mtasts", "memory", "discover", "policytest"},
	"queue":  {"pebblestore", "pgstore", "seal", "storetest"},
	"relay": {"smtpclient", "submission", "dsn", "dkim", "tlsrpt", "metrics", "webhook", "httpapi",
		"relaytest"},
	"config": {},
	"cmd":    {"sealpost"},
}

// siblings are the only edges between children.
var siblings = map[string][]string{
	"policy/discover": {"policy/dnssec", "policy/mtasts"},
	"policy/mtasts":   {"policy/dnssec"},
}

// fence says who may import a third-party module. Every module that is imported stands here: adding
// a dependency is a decision about a wall. inTests are packages whose test files may import it too.
type fence struct {
	in, inTests []string
}

var fences = map[string]fence{
	"github.com/miekg/dns":                {in: []string{"policy/dnssec", "policy/policytest"}},
	"github.com/emersion/go-smtp":         {in: []string{"relay/submission", "relay/relaytest", "relay/smtpclient"}, inTests: []string{"cmd/sealpost"}},
	"github.com/emersion/go-sasl":         {in: []string{"relay/submission", "relay/smtpclient"}, inTests: []string{"cmd/sealpost"}},
	"github.com/xdg-go/scram":             {in: []string{"relay/submission"}},
	"github.com/pires/go-proxyproto":      {in: []string{"relay/submission"}},
	"github.com/emersion/go-message":      {in: []string{"relay/dsn", "relay/submission"}},
	"github.com/cockroachdb/pebble/v2":    {in: []string{"queue/pebblestore"}, inTests: []string{"cmd/sealpost"}},
	"github.com/jackc/pgx/v5":             {in: []string{"queue/pgstore"}},
	"github.com/prometheus/client_golang": {in: []string{"relay/metrics"}},
	"github.com/prometheus/client_model":  {in: []string{"relay/metrics"}},
	"github.com/prometheus/common":        {in: []string{"relay/metrics"}, inTests: []string{"cmd/sealpost"}},
	"github.com/pelletier/go-toml/v2":     {in: []string{"config", "cmd/sealpost"}},
	"github.com/alecthomas/kong":          {in: []string{"cmd/sealpost"}},
	"github.com/rogpeppe/go-internal":     {inTests: []string{"cmd/sealpost"}},
	"go.uber.org/goleak":                  {inTests: []string{"*"}},
	"golang.org/x/crypto":                 {in: []string{"relay/submission", "queue/seal"}},
	"golang.org/x/net":                    {in: []string{"queue", "relay/httpapi"}},
	"golang.org/x/sys":                    {in: []string{"queue/pebblestore", "cmd/sealpost"}},
	"golang.org/x/time":                   {in: []string{"relay/submission", "relay/httpapi"}},
	"golang.org/x/sync":                   {in: []string{"*"}},
}

// readOnly are the package-level variables that are allowed beside errors, regular expressions,
// embedded files and interface assertions: tables that nothing writes (the test checks that too).
var readOnly = map[string]string{
	"policy.reasons": "the one table of failure reasons; an array literal indexed by Reason",
}

// longFiles are the files that may be over 500 lines, each with the reason.
var longFiles = map[string]string{}

// TestFence reads the whole module and checks the walls of ARCHITECTURE.md.
func TestFence(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	w := walls{rank: rank, children: children, siblings: siblings, fences: fences,
		readOnly: readOnly, longFiles: longFiles}
	for _, breach := range w.check(root, listPackages(t, root)) {
		t.Error(breach)
	}
}

// TestFenceHolds shows that the checker sees each kind of breach: a fence that cannot fail is none.
func TestFenceHolds(t *testing.T) {
	t.Parallel()
	const m = modulePath
	clean := map[string]string{
		"policy/a.go":            "package policy\n",
		"policy/dnssec/a.go":     "package dnssec\nimport _ \"" + m + "policy\"\nimport _ \"github.com/miekg/dns\"\n",
		"policy/discover/a.go":   "package discover\nimport _ \"" + m + "policy/dnssec\"\n",
		"queue/a.go":             "package queue\nimport _ \"" + m + "policy\"\nimport \"errors\"\nvar ErrX = errors.New(\"x\")\nvar _ error = ErrX\n",
		"queue/pebblestore/a.go": "package pebblestore\nimport _ \"" + m + "queue\"\n",
		"queue/a_test.go":        "package queue_test\nimport _ \"" + m + "queue/storetest\"\n",
		"queue/storetest/a.go":   "package storetest\nimport _ \"" + m + "queue\"\n",
		"relay/a.go":             "package relay\nimport _ \"" + m + "queue\"\n",
		"relay/smtpclient/a.go":  "package smtpclient\nimport _ \"" + m + "relay\"\nimport _ \"" + m + "policy\"\n",
		"config/a.go":            "package config\nimport _ \"" + m + "relay/smtpclient\"\n",
		"cmd/sealpost/main.go":   "package main\nimport _ \"" + m + "config\"\nimport _ \"" + m + "queue/pebblestore\"\n",
	}
	tests := []struct {
		name, path, src string // the file that is added to the clean module
		want            string // part of the one breach that it makes; "" for none
	}{
		{"nothing", "", "", ""},
		{"a root imports its child", "queue/b.go", "package queue\nimport _ \"" + m + "queue/pebblestore\"\n", "queue imports queue/pebblestore"},
		{"a room imports upwards", "queue/pebblestore/b.go", "package pebblestore\nimport _ \"" + m + "relay\"\n", "queue/pebblestore imports relay"},
		{"a sibling", "relay/dsn/b.go", "package dsn\nimport _ \"" + m + "relay/smtpclient\"\n", "relay/dsn imports relay/smtpclient"},
		{"a sibling edge the wrong way", "policy/dnssec/b.go", "package dnssec\nimport _ \"" + m + "policy/discover\"\n", "policy/dnssec imports policy/discover"},
		{"a child of a lower room", "relay/dsn/b.go", "package dsn\nimport _ \"" + m + "queue/pebblestore\"\n", "relay/dsn imports queue/pebblestore"},
		{"somebody imports config", "relay/dsn/b.go", "package dsn\nimport _ \"" + m + "config\"\n", "relay/dsn imports config"},
		{"a test double in production code", "relay/smtpclient/b.go", "package smtpclient\nimport _ \"" + m + "policy/policytest\"\n", "relay/smtpclient imports policy/policytest"},
		{"a test double in a test", "relay/smtpclient/b_test.go", "package smtpclient\nimport _ \"" + m + "policy/policytest\"\n", ""},
		{"a test imports upwards", "queue/b_test.go", "package queue\nimport _ \"" + m + "relay\"\n", "queue (tests) imports relay"},
		{"a room that is not on the map", "util/b.go", "package util\n", "util is not a room"},
		{"a child that is not on the map", "relay/helper/b.go", "package helper\n", "relay/helper is not on the map"},
		{"third party over its fence", "relay/b.go", "package relay\nimport _ \"github.com/miekg/dns\"\n", "relay imports github.com/miekg/dns"},
		{"third party by a sub-package", "queue/b.go", "package queue\nimport _ \"github.com/cockroachdb/pebble/v2/vfs\"\n", "queue imports github.com/cockroachdb/pebble/v2"},
		{"third party without a fence", "queue/b.go", "package queue\nimport _ \"example.org/left/pad\"\n", "example.org/left/pad has no fence"},
		{"third party in the judge", "policy/b.go", "package policy\nimport _ \"golang.org/x/sync/errgroup\"\n", "policy imports golang.org/x/sync"},
		{"the judge opens files", "policy/b.go", "package policy\nimport _ \"os\"\n", "policy/b.go: the judge imports os"},
		{"the judge reads the clock", "policy/b.go", "package policy\nimport \"time\"\nfunc f() time.Time { return time.Now() }\n", "policy/b.go:3: the judge calls time.Now"},
		{"the judge reads the clock under another name", "policy/b.go", "package policy\nimport clock \"time\"\nfunc f() time.Time { return clock.Now() }\n", "the judge calls time.Now"},
		{"the judge's test may", "policy/b_test.go", "package policy\nimport \"time\"\nfunc f() time.Time { return time.Now() }\n", ""},
		{"init", "relay/b.go", "package relay\nfunc init() {}\n", "relay/b.go:2: init()"},
		{"package-level state", "relay/b.go", "package relay\nvar count int\n", "relay.count is package-level state"},
		{"a package-level map", "relay/b.go", "package relay\nvar (\n\tcache = map[string]int{}\n)\n", "relay.cache is package-level state"},
		{"a table on the list", "relay/b.go", "package relay\nvar table = [...]int{1}\nfunc f() int { return table[0] }\n", ""},
		{"a table on the list that is written", "relay/b.go", "package relay\nvar table = [...]int{1}\nfunc f() { table[0] = 2 }\n", "relay.table is read-only, and written at relay/b.go:3"},
		{"a table on the list whose address is taken", "relay/b.go", "package relay\nvar table = [...]int{1}\nfunc f() *int { return &table[0] }\n", "relay.table is read-only"},
		{"a long file", "relay/b.go", "package relay\n" + strings.Repeat("// line\n", 500), "relay/b.go has 501 lines"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for path, src := range clean {
				writeFile(t, filepath.Join(dir, path), src)
			}
			w := walls{rank: rank, children: children, siblings: siblings, fences: fences}
			if strings.HasPrefix(test.name, "a table on the list") {
				w.readOnly = map[string]string{"relay.table": "test"}
			}
			if test.path != "" {
				writeFile(t, filepath.Join(dir, test.path), test.src)
			}
			got := w.check(dir, readPackages(t, dir))
			switch {
			case test.want == "" && len(got) != 0:
				t.Errorf("breaches where none are: %q", got)
			case test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)):
				t.Errorf("breaches %q, want one with %q", got, test.want)
			}
		})
	}
}

// TestFenceListsAreTrue refuses entries of the lists that nothing needs any more.
func TestFenceListsAreTrue(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "policy/a.go"), "package policy\n")
	w := walls{rank: rank, children: children, fences: fences,
		readOnly:  map[string]string{"policy.gone": "was a table"},
		longFiles: map[string]string{"policy/a.go": "was long"}}
	got := strings.Join(w.check(root, readPackages(t, root)), "\n")
	for _, want := range []string{"policy.gone is listed and is not there", "policy/a.go is listed as long and is not"} {
		if !strings.Contains(got, want) {
			t.Errorf("breaches %q, want one with %q", got, want)
		}
	}
}

// listPackages asks the go command for the module's packages: the build's own view of who imports whom.
func listPackages(t *testing.T, root string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatalf("go list printed what is no JSON: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("the module's root is not two folders up: %v", err)
	}
	return root
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
