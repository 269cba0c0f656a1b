//go:build bench

package main_test

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// usage is what a relay with all its processes has used.
type usage struct {
	cpu  time.Duration
	peak int64 // octets of memory, pages that are shared counted once
}

// meter watches the processes of a relay.
type meter struct {
	root int // process at the top
	stop chan struct{}
	done sync.WaitGroup
	peak int64
}

func startMeter(root int) *meter {
	m := &meter{root: root, stop: make(chan struct{})}
	m.done.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			m.peak = max(m.peak, m.memory())
			select {
			case <-m.stop:
				return
			case <-tick.C:
			}
		}
	})
	return m
}

func (m *meter) end() int64 {
	close(m.stop)
	m.done.Wait()
	return max(m.peak, m.memory())
}

// memory is the sum of proportional sizes; for a single process its highest size so far.
func (m *meter) memory() int64 {
	pids := tree(m.root)
	if len(pids) == 1 {
		return field("/proc/"+strconv.Itoa(m.root)+"/status", "VmHWM:")
	}
	var sum int64
	for _, pid := range pids {
		sum += field("/proc/"+strconv.Itoa(pid)+"/smaps_rollup", "Pss:")
	}
	return sum
}

// field reads a number of kB from a file of /proc; 0 when the process is gone.
func field(path, name string) int64 {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// cpu is the processor's time of the tree, of processes that have ended too.
func (m *meter) cpu() time.Duration {
	var ticks int64
	for _, pid := range tree(m.root) {
		if f := stat(pid); f != nil {
			for _, i := range []int{11, 12, 13, 14} { // utime, stime, and those of children that were waited for
				n, _ := strconv.ParseInt(f[i], 10, 64)
				ticks += n
			}
		}
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

// stat returns the fields of /proc/pid/stat from the state on; nil when the process is gone.
func stat(pid int) []string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// tree lists a process and all below it.
func tree(root int) []int {
	children := map[int][]int{}
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range paths {
		pid, _ := strconv.Atoi(filepath.Base(path))
		if f := stat(pid); f != nil {
			parent, _ := strconv.Atoi(f[1])
			children[parent] = append(children[parent], pid)
		}
	}
	pids := []int{root}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children[pids[i]]...)
	}
	return pids
}

// runReaper runs the command behind "--" and adopts what its children leave behind, so that nothing escapes
// the meter: Exim's deliveries outlive who started them.
func runReaper(t *testing.T) {
	const setChildSubreaper = 36 // prctl(2)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		t.Fatal(errno)
	}
	args := strings.Split(os.Getenv(benchJob), "\x1f")
	path, err := exec.LookPath(args[0])
	if err != nil {
		t.Fatal(err)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	p, err := os.StartProcess(path, args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-term; _ = p.Signal(syscall.SIGTERM) }()
	for {
		_, err := syscall.Wait4(-1, nil, 0, nil)
		if err != nil && err != syscall.EINTR {
			return // ECHILD: all are gone
		}
	}
}

// underReaper is the command line that runs another below a reaper.
func underReaper(args ...string) []string {
	return []string{"env", benchChild + "=reaper", benchJob + "=" + strings.Join(args, "\x1f"), os.Args[0], "-test.run=^TestBenchChild$", "-test.timeout=1h"}
}
