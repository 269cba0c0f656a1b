package main

import (
	"os"
	"runtime"
)

// spare is how many threads run Go code beside one for each processor.
const spare = 2

// overlap has a few more threads run than there are processors, unless the environment says how many
// (GOMAXPROCS). Two are often in a call that syncs a file, and the runtime gives what such a thread could run to
// another one only when it has looked on for a while: a sixth of two processors stood idle in the meantime,
// with work to do.
func overlap() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spare)
	}
}
