package main

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/sealpost/sealpost/config"
)

// logs is the process's logger with a level that a reload can change.
type logs struct {
	*slog.Logger
	level  *slog.LevelVar
	format *switchHandler
}

// newLog returns a logger that writes text at level info.
func newLog(w io.Writer) *logs {
	level := new(slog.LevelVar)
	o := &slog.HandlerOptions{Level: level}
	f := &switchHandler{text: slog.NewTextHandler(w, o), json: slog.NewJSONHandler(w, o), useJSON: new(atomic.Bool)}
	return &logs{slog.New(f), level, f}
}

func (l *logs) set(c config.Log) {
	l.level.Set(c.Level)
	l.format.useJSON.Store(c.Format == config.LogJSON)
}

// switchHandler writes text or JSON, as a reload says.
type switchHandler struct {
	text, json slog.Handler
	useJSON    *atomic.Bool // shared with derived handlers
}

func (s *switchHandler) now() slog.Handler {
	if s.useJSON.Load() {
		return s.json
	}
	return s.text
}

func (s *switchHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return s.now().Enabled(ctx, l)
}

func (s *switchHandler) Handle(ctx context.Context, r slog.Record) error {
	return s.now().Handle(ctx, r)
}

func (s *switchHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &switchHandler{s.text.WithAttrs(a), s.json.WithAttrs(a), s.useJSON}
}

func (s *switchHandler) WithGroup(name string) slog.Handler {
	return &switchHandler{s.text.WithGroup(name), s.json.WithGroup(name), s.useJSON}
}
