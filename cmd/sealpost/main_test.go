package main

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// asMain in the environment makes the test binary the program itself: crash tests
// run and kill it without a build of its own, race detector included.
const asMain = "SEALPOST_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	program := func() {
		os.Exit(run(context.Background(), os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
	}
	if os.Getenv(asMain) != "" {
		program()
	}
	testscript.Main(m, map[string]func(){"sealpost": program})
}
