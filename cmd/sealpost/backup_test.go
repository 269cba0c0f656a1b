package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// TestBackupAndRestore has a sealed relay backed up while it runs, and restored: at once all is
// there and goes out; after the erasure delay what was delivered meanwhile cannot be read any more,
// and is named, and the relay starts all the same.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	const domain = "later.example"
	w := idleWorld(t, one(t, domain, "greeting-none"))
	conf := filepath.Join(t.TempDir(), "relay.toml")
	const erasing = waiting + "[queue.encryption]\nerase_after = \"3s\"\n"
	if err := os.WriteFile(conf, fmt.Appendf(nil, "[server]\ndata_dir = %q\n%s", w.dir, erasing), 0o600); err != nil {
		t.Fatal(err)
	}
	sealpost := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(args, "--config", conf), streams{strings.NewReader(""), &out, &errs}); code != want {
			t.Fatalf("%q: exit code %d, want %d\n%s%s", args, code, want, &out, &errs)
		}
		return out.String() + errs.String()
	}
	says := func(text, want string) {
		t.Helper()
		if !strings.Contains(text, want) {
			t.Errorf("it says\n%swant %q", text, want)
		}
	}
	backup := filepath.Join(t.TempDir(), "backup")

	stop := w.start(t, erasing)
	id := w.submit(t, "reviews@shop.example", "", "ann@"+domain)
	w.await(t, domain, 1)
	says(sealpost(0, "queue", "backup", backup), "The keys are not in this backup")
	says(sealpost(0, "queue", "backup", "--verify", backup), "is whole")
	w.submit(t, "reviews@shop.example", "", "bob@"+domain)
	says(sealpost(1, "queue", "restore", backup), "stop it first")
	stop()
	says(sealpost(1, "queue", "restore", backup), "say --replace")
	text := sealpost(0, "queue", "restore", backup, "--replace")
	says(text, "restored: 1 messages")
	says(text, "moved aside: ")
	if strings.Contains(text, "was not opened") {
		t.Errorf("the keys are there, and it says\n%s", text)
	}

	stop = w.start(t, erasing)
	keys := mortalKeys(t, w.dir)
	w.become(t, domain, "modern")
	if n, err := w.house.queue.Act(t.Context(), queue.Action{Verb: queue.VerbRetry}, queue.Filter{}); n != 1 || err != nil {
		t.Fatalf("retried %d, %v", n, err)
	}
	if a := w.await(t, domain, 1); a.Message != id || a.Achieved != policy.Verified {
		t.Fatalf("attempt %+v", a)
	}
	until(t, "the keys of its time are destroyed", func() bool {
		for name := range keys {
			if _, err := os.Stat(name); err == nil {
				return false
			}
		}
		return true
	})
	stop()
	text = sealpost(1, "queue", "restore", backup, "--replace")
	says(text, "damaged: envelope "+string(id)+"-0: ")
	says(text, "its key is gone")
	says(text, "restored: 1 messages")

	stop = w.start(t, erasing)
	says(sealpost(0, "queue", "list", "--state", "damaged"), string(id)+"-0")
	says(sealpost(0, "queue", "drop", "--state", "damaged"), "drop: 1 envelopes")
	stop()
}

// TestFilterFlags: the words of a filter are flags of each command that takes one.
func TestFilterFlags(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"list", "summary", "retry", "hold", "release", "drop"} {
		var out bytes.Buffer
		if code := run(t.Context(), []string{"queue", command, "--help"}, streams{out: &out, err: &out}); code != 0 {
			t.Fatalf("%s: %d", command, code)
		}
		for _, word := range queue.FilterWords() {
			flag := "--" + strings.ReplaceAll(word, "_", "-") + "="
			if page := word == "limit" || word == "after"; !page && !strings.Contains(out.String(), flag) {
				t.Errorf("queue %s has no flag %s", command, flag)
			}
		}
	}
}

// TestSuspensionWarnings: the status page says what is suspended, and no reason, and not a
// thousand lines.
func TestSuspensionWarnings(t *testing.T) {
	t.Parallel()
	list := []queue.Suspension{{Target: queue.Everything, Reason: "for ann@shop.example"}, {Target: ".example.net"}}
	got := strings.Join(suspensionWarnings(list), "\n")
	if want := "Deliveries are suspended: all mail until it is resumed.\nDeliveries are suspended: all domains below example.net until it is resumed."; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	for i := range 20 {
		list = append(list, queue.Suspension{Target: fmt.Sprintf("d%d.example", i)})
	}
	if got := suspensionWarnings(list); len(got) != 6 || !strings.HasPrefix(got[5], "17 more") {
		t.Errorf("%q", got)
	}
}
