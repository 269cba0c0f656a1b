package storetest

import (
	"testing"

	"github.com/sealpost/sealpost/queue"
)

func TestModel(t *testing.T) {
	t.Parallel()
	Run(t, func(*testing.T) queue.Store { return NewModel() })
}

func TestModelHistory(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		Compare(t, NewModel(), seed, 300)
	}
}
