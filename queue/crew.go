package queue

import "sync"

// maxIdle is how many goroutines of a crew wait for more to do. A delivery needs a deep
// stack: one that is new grows it by copying, again and again.
const maxIdle = 64

// crew runs jobs, each at once, on goroutines that are used again.
type crew struct {
	jobs chan func()
	idle chan struct{} // a token for each goroutine that may wait
	all  sync.WaitGroup
}

func newCrew() *crew {
	return &crew{jobs: make(chan func()), idle: make(chan struct{}, maxIdle)}
}

// do starts a job. It is for one goroutine, and not after end.
func (c *crew) do(job func()) {
	select {
	case c.jobs <- job:
	default:
		c.all.Go(func() { c.work(job) })
	}
}

func (c *crew) work(job func()) {
	for ok := true; ok; {
		job()
		select {
		case c.idle <- struct{}{}:
			job, ok = <-c.jobs
			<-c.idle
		default:
			return
		}
	}
}

// end waits until every job is done.
func (c *crew) end() {
	close(c.jobs)
	c.all.Wait()
}
