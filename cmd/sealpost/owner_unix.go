//go:build unix

package main

import (
	"os"
	"syscall"
)

// keepOwner gives a file to the owner of the data directory: root may call
// `sealpost user` for a relay that runs as somebody else.
func keepOwner(f *os.File, dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}

// lockFile waits until the file is nobody else's; closing it gives it up.
func lockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }
