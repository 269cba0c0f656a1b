package metrics

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// Positions on the axis bounceKinds.
const (
	bouncePermanent = iota
	bounceProtection
	bounceExpired
)

// Accepted implements queue.Observer and counts nothing: a message that a client
// submitted is counted at the door, and a notice by [Metrics.Noticed].
func (m *Metrics) Accepted(*queue.Message, int) {}

// Settled counts what became of recipients. It implements queue.Observer.
func (m *Metrics) Settled(_ *queue.Message, e *queue.Envelope, list []queue.Outcome) {
	if e == nil {
		return
	}
	for i := range list {
		o := &list[i]
		if o.Recipient < 0 || o.Recipient >= len(e.Recipients) {
			continue
		}
		what := stateWord(e.Recipients[o.Recipient].State)
		m.recipients.at1(what).Inc()
		if what == outcomeBounced || what == outcomeExpired {
			reason := policy.ReasonUnset
			if o.Failure != nil {
				reason = o.Failure.Reason
			}
			m.bounces.at2(bounceKind(what, reason), int(reason)-1).Inc()
		}
	}
}

func bounceKind(what int, r policy.Reason) int {
	switch {
	case what == outcomeExpired:
		return bounceExpired
	case isProtection(r):
		return bounceProtection
	default:
		return bouncePermanent
	}
}

// Noticed counts a notice. It implements queue.Observer.
func (m *Metrics) Noticed(kind queue.NoticeKind) { m.notices.at1(int(kind) - 1).Inc() }

// Missed counts journal entries that were gone before a reader came to them.
func (m *Metrics) Missed(_ string, entries uint64) { m.missed.Add(float64(entries)) }

// Damaged counts a sealed thing that does not open: "record", "row", "body", "entry", "cell".
func (m *Metrics) Damaged(thing string) { m.damaged.at1(m.damaged.axes[0].index(thing)).Inc() }

// Sources are asked at each scrape; a nil one counts as 0. They must be cheap and
// safe for concurrent use.
type Sources struct {
	Queue        func() queue.Stats
	StorageFree  func() uint64 // octets
	IntakePaused func() bool
	DNSSEC       func() bool          // answers can be believed
	Outage       func() bool          // the resolver is down
	Holds        func() int           // downgrade holds that run
	Throttled    func() int           // hosts that get less than the configuration allows
	KeysOverdue  func() time.Duration // how late the destruction of keys is
	Suspensions  func() int           // suspensions in force
}

// Watch sets the sources. It may be called again; the last ones count.
func (m *Metrics) Watch(s Sources) { m.watched.Store(&s) }

// scrape is the collector of what is a state and not an event.
type scrape struct {
	m     *Metrics
	descs map[string]*prometheus.Desc
}

func newScrape(m *Metrics, rows map[string]row) *scrape {
	s := &scrape{m: m, descs: map[string]*prometheus.Desc{}}
	for _, name := range []string{nameDNSSEC, nameQueueMessages, nameQueueBytes, nameQueueOldest, nameStorageFree, nameIntakePaused, nameHolds, nameOutage, nameKeysOverdue, nameSuspensions, nameThrottled} {
		s.descs[name] = prometheus.NewDesc(prefix+name, rows[name].help, labelNames(rows[name]), nil)
	}
	return s
}

// Describe implements prometheus.Collector.
func (s *scrape) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	var src Sources
	if w := s.m.watched.Load(); w != nil {
		src = *w
	}
	emit := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(s.descs[name], prometheus.GaugeValue, v, labels...)
	}
	stats := ask(s.m, src.Queue)
	for _, state := range states().words {
		emit(nameQueueMessages, float64(stats.Envelopes[state]), state)
		emit(nameQueueBytes, float64(stats.Bytes[state]), state)
		emit(nameQueueOldest, age(stats.Oldest[state]), state)
	}
	emit(nameStorageFree, float64(ask(s.m, src.StorageFree)))
	emit(nameIntakePaused, truth(ask(s.m, src.IntakePaused)))
	emit(nameDNSSEC, truth(ask(s.m, src.DNSSEC)))
	emit(nameOutage, truth(ask(s.m, src.Outage)))
	emit(nameHolds, float64(ask(s.m, src.Holds)))
	emit(nameThrottled, float64(ask(s.m, src.Throttled)))
	emit(nameKeysOverdue, ask(s.m, src.KeysOverdue).Seconds())
	emit(nameSuspensions, float64(ask(s.m, src.Suspensions)))
}

// ask calls a source. A source that panics must not end the process from here.
func ask[T any](m *Metrics, source func() T) (v T) {
	if source == nil {
		return v
	}
	defer func() {
		if r := recover(); r != nil {
			m.log.Error("metrics: a source failed", "error", r)
		}
	}()
	return source()
}

func age(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return math.Max(0, time.Since(t).Seconds())
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
