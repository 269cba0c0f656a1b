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
