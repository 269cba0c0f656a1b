package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mountSmall mounts a file system of so many MiB; it goes with the test.
func mountSmall(t *testing.T, size string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealpost")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		_ = os.Remove(dir)
		t.Skip("no file system can be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		_ = os.Remove(dir)
	})
	return dir
}

// A disk of 64 MiB is filled by load until mail is refused, with the gate and without:
// the process does not crash, at worst it ends with code 3 and a line that says why;
// nothing that got a 250 is lost; what is delivered makes room, and mail is taken again.
func TestDiskFilledByLoad(t *testing.T) {
	for name, minimum := range map[string]string{"gate": "16MiB", "no gate": "0B"} {
		t.Run(name, func(t *testing.T) { fillDisk(t, minimum) })
	}
}

func fillDisk(t *testing.T, minimum string) {
	dir := mountSmall(t, "64m")
	n, err := openInternet(t.Context(), []exchanger{one(t, "load.example", "modern"), one(t, "other.example", "modern")})
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	submission := loopbackPort(0, true)
	conf := filepath.Join(t.TempDir(), "sealpost.toml")
	httpPort := loopbackPort(0, true)
	write := func(paused string) {
		text, err := n.configure(filepath.Dir(conf), submission, httpPort, "[retry]\nschedule = [\"200ms\"]\n[server.log]\nlevel = \"warn\"\n")
		if err != nil {
			t.Fatal(err)
		}
		text = strings.NewReplacer("\ndata_dir = \""+filepath.Dir(conf)+"\"", "\ndata_dir = \""+dir+"\"",
			"min_free = \"1MiB\"", "min_free = \""+minimum+"\"", "[delivery]\n", "[delivery]\npaused = "+paused+"\n").Replace(text)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("true")
	l := &load{addr: submission, accepted: map[string]bool{}, size: 256 << 10}
	ctx, stop := context.WithCancel(t.Context())
	var crew sync.WaitGroup
	for i := range 20 {
		crew.Go(func() { l.session(ctx, i) })
	}
	defer crew.Wait()
	defer stop()
	p := startProgram(t, conf)
	// Full is when nothing was accepted for a while.
	before, moved := -1, time.Now()
	until(t, "the disk to be full", func() bool {
		if now := l.count(); now != before {
			before, moved = now, time.Now()
		}
		return p.ended() || before > 20 && time.Since(moved) > 3*time.Second
	})
	free := func() int {
		var st unix.Statfs_t
		_ = unix.Statfs(dir, &st) // only told
		return int(st.Bavail) * int(st.Bsize) >> 10
	}
	t.Logf("full with %d messages, %d refused, %d KiB free", l.count(), l.refusals(), free())
	full := l.count()
	restarts := 0
	revive := func() {
		if !p.ended() {
			return
		}
		if code := p.cmd.ProcessState.ExitCode(); code != exitStorage || !strings.Contains(p.lastLine(), "free some space") {
			t.Fatalf("exit code %d, last line %q", code, p.lastLine())
		}
		if restarts++; restarts > 20 {
			t.Fatalf("it does not stay up: %s", p.lastLine())
		}
		p = startProgram(t, conf)
	}
	// Deliveries make room, and mail is taken again by itself.
	write("false")
	if !p.ended() {
		_ = p.cmd.Process.Signal(unix.SIGHUP)
	}
	until(t, "mail to be taken again", func() bool { revive(); return l.count() > full+5 })
	stop()
	crew.Wait()
	for arrived := false; !arrived; {
		revive()
		done := make(chan struct{})
		go func() { defer close(done); awaitAll(t, n, l) }()
		select {
		case <-done:
			arrived = true
		case <-p.exited:
			revive()
			<-done
			arrived = true
		}
	}
	t.Logf("%d accepted in all, all arrived; %d ends with code 3; %d KiB free", l.count(), restarts, free())
}

// program is a relay in a process of its own whose last words are kept.
type program struct {
	cmd    *exec.Cmd
	log    *logText
	exited chan struct{}
}

func startProgram(t *testing.T, conf string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(os.Args[0], "serve", "--config", conf), log: &logText{}, exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asMain+"=1")
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.exited) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // as a rule it is gone already
		<-p.exited
	})
	return p
}

func (p *program) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *program) lastLine() string {
	lines := strings.Split(strings.TrimSpace(p.log.String()), "\n")
	return lines[len(lines)-1]
}
