package pebblestore

import (
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
)

// logger takes Pebble's words to slog. Its Fatalf ends the process in our way.
type logger struct {
	slog  *slog.Logger
	fatal func(code int)
}

// Infof is for what Pebble does all the time.
func (l logger) Infof(format string, args ...any) {
	l.slog.Debug("storage: " + fmt.Sprintf(format, args...))
}

// Errorf is for what went wrong and is tried again.
func (l logger) Errorf(format string, args ...any) {
	l.slog.Error("storage: " + fmt.Sprintf(format, args...))
}

// Fatalf is for a log that cannot be written: what was promised cannot be kept
// from here on. It does not return.
func (l logger) Fatalf(format string, args ...any) {
	l.slog.Error("storage unusable, the process ends: "+fmt.Sprintf(format, args...), "exit", fatalCode)
	l.fatal(fatalCode)
	panic("pebblestore: Options.Fatal returned")
}

// listener hears of the few events that an operator must know.
func (l logger) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { l.Errorf("background: %v", err) },
		// Not fatal, as Pebble has it: the rest of the queue goes on.
		DataCorruption:  func(i pebble.DataCorruptionInfo) { l.Errorf("corrupted data: %s", i) },
		DiskSlow:        func(i pebble.DiskSlowInfo) { l.slog.Warn("storage: slow disk: " + i.String()) },
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) { l.slog.Warn("storage: " + i.String()) },
		WriteStallEnd:   func() { l.slog.Warn("storage: write stall ended") },
	}
}
