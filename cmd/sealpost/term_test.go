package main

import (
	"syscall"
	"testing"
	"time"
)

// SIGTERM under the load of 50 sessions, with deliveries, retries and notices under way, again
// and again: each time the process ends with 0 and within the time that it gives to what is under
// way; after the last start every message that was answered with 250 arrives, none of them twice,
// and the journal has one end for each recipient.
func TestTermUnderLoad(t *testing.T) {
	const terms = 3
	n, conf, l := mixedLoad(t)
	stop := l.begin(t, sessions)
	defer stop()
	child := startChild(t, conf)
	end := func() {
		t.Helper()
		began := time.Now()
		if err := child.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- child.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("SIGTERM: %v", err)
			}
		case <-time.After(drainIntake + drainDelivery + drainHTTP + 5*time.Second):
			t.Fatal("SIGTERM: it goes on")
		}
		t.Logf("ended in %v with %d accepted", time.Since(began).Round(time.Millisecond), l.count())
	}
	for range terms {
		l.await(t, l.count()+300)
		end()
		child = startChild(t, conf)
	}
	l.await(t, l.count()+100)
	stop()
	arrived := awaitAll(t, n, l)
	for id, times := range arrived {
		if times > 1 {
			t.Errorf("%s arrived %d times", id, times)
		}
	}
	end()
	tally := readTally(t, conf)
	t.Logf("%d accepted, %d arrived; journal: %+v", l.count(), len(arrived), *tally)
	if tally.Accepted < l.count() || tally.Open > 0 || tally.Again > 0 || tally.Unheard > 0 || tally.Notices != tally.NoticesTaken {
		t.Errorf("the journal does not agree: %+v", *tally)
	}
}
