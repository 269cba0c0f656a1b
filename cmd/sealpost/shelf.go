package main

import (
	"context"
	"errors"
	"strings"

	"github.com/sealpost/sealpost/queue"
)

// What keeps its values in cells of the store, each under its own prefix.
const (
	stsShelf   = "sts/"
	hostsShelf = "hosts/"
)

// shelf is a part of the store's cells for somebody who remembers: memory.Shelf and
// mtasts.Shelf. Everything that is kept there lies in the same vault as the mail.
type shelf struct {
	store  queue.Store
	prefix string // ends with a slash, so that no shelf lies in another
}

// Each calls fn with every value on the shelf.
func (s shelf) Each(ctx context.Context, fn func(name string, value []byte) error) error {
	return s.store.Scan(ctx, queue.ScanQuery{Kind: queue.ScanCells, After: s.prefix}, func(it queue.Item) error {
		name, ours := strings.CutPrefix(it.Pos, s.prefix)
		if !ours {
			return queue.ErrStop // cells come in the order of their names
		}
		return fn(name, it.Entry)
	})
}

// Put keeps a value under a name; nil removes it.
func (s shelf) Put(ctx context.Context, name string, value []byte) error {
	if name == "" {
		return errors.New("a value on the shelf " + s.prefix + " needs a name")
	}
	return s.store.SetCell(ctx, s.prefix+name, value)
}
