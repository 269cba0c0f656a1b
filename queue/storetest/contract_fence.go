package storetest

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sealpost/sealpost/queue"
)

// testScanFence: who writes a row as a scan showed it, under the fence that came with it,
// overwrites nothing. Many add one to rows at the same time: none of it is lost.
func testScanFence(f *fixture) {
	const rows, hands, want = 60, 4, 1500
	for range rows {
		f.insert("x", "a.example")
	}
	var won atomic.Int64
	var crew sync.WaitGroup
	for hand := range hands {
		q := queue.ScanQuery{Kind: queue.ScanRows}
		if hand%2 == 1 {
			q.Lanes = []string{"a.example"}
		}
		crew.Go(func() {
			for won.Load() < want && !f.Failed() {
				err := f.s.Scan(f.ctx, q, func(it queue.Item) error {
					r := it.Row
					n, _ := strconv.Atoi(strings.TrimPrefix(string(r.Data), "seen "))
					r.Data, r.State = []byte("seen "+strconv.Itoa(n+1)), queue.RowWaiting
					switch err := f.s.Commit(f.ctx, &queue.Change{Update: []queue.Row{r}}); {
					case err == nil:
						won.Add(1)
					case !errors.Is(err, queue.ErrStale):
						return err
					}
					return nil
				})
				if err != nil {
					f.Error(err)
				}
			}
		})
	}
	crew.Wait()
	sum := 0
	for _, it := range f.scan(queue.ScanQuery{Kind: queue.ScanRows}) {
		n, _ := strconv.Atoi(strings.TrimPrefix(string(it.Row.Data), "seen "))
		sum += n
	}
	if int64(sum) != won.Load() {
		f.Errorf("%d of %d changes were overwritten by ones that had not seen them", won.Load()-int64(sum), won.Load())
	}
}
