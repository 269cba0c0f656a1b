package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

const (
	nativeFactor  = 1.1
	nativeBuckets = 160
	nativeReset   = time.Hour

	scrapeLimit   = 10 * time.Second
	scrapesAtOnce = 4
)

// Options of Metrics.
type Options struct {
	Version  string // of the program, for build_info
	Revision string // of its source, for build_info
	Labels   Labels
	Logger   *slog.Logger // nil: discard
}

// Metrics holds all metrics of one relay in a registry of its own. It is safe for
// concurrent use. It implements relay.Observer and queue.Observer.
type Metrics struct {
	registry *prometheus.Registry
	log      *slog.Logger
	watched  atomic.Pointer[Sources]

	delivered, recipients, downgrades, refusals *grid[prometheus.Counter]
	overrides                                   *grid[prometheus.Counter]
	tlsConns, tlsFailures, lookups              *grid[prometheus.Counter]
	accepted, rejected, auth, bounces, notices  *grid[prometheus.Counter]
	acceptedBytes, openFailures, dnsQueries     *grid[prometheus.Counter]
	damaged                                     *grid[prometheus.Counter]
	missed                                      prometheus.Counter
	deliveryTime, attemptTime                   *grid[prometheus.Observer]

	dnsTime, throttleWait *grid[prometheus.Observer]
	throttling            *grid[prometheus.Counter]

	connsOut, connsIn, reload prometheus.Gauge
	certExpiry                prometheus.Gauge
	reused, handshakesFailed  prometheus.Counter

	lowering, protection, report []int // position of a reason on its axis, by reason
	basis                        []int // position of a basis on its axis, by basis
}

var (
	_ relay.Observer = (*Metrics)(nil)
	_ queue.Observer = (*Metrics)(nil)
)

// New returns metrics with every series at 0.
func New(o Options) *Metrics {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Metrics{registry: prometheus.NewRegistry(), log: o.Logger}
	rows := map[string]row{}
	for _, r := range table(o.Labels.withDefaults()) {
		rows[r.name] = r
	}
	m.delivered = m.counters(rows[nameDelivered], nil)
	m.recipients = m.counters(rows[nameRecipients], nil)
	m.downgrades = m.counters(rows[nameDowngrades], goesDown)
	m.refusals = m.counters(rows[nameRefusals], nil)
	m.overrides = m.counters(rows[nameOverrides], nil)
	m.tlsConns = m.counters(rows[nameTLSConns], nil)
	m.tlsFailures = m.counters(rows[nameTLSFailures], nil)
	m.lookups = m.counters(rows[nameLookups], lookupHappens)
	m.accepted = m.counters(rows[nameAccepted], nil)
	m.acceptedBytes = m.counters(rows[nameAcceptedBytes], nil)
	m.openFailures = m.counters(rows[nameOpenFailures], nil)
	m.damaged = m.counters(rows[nameDamaged], nil)
	m.missed = m.counter(rows[nameMissed])
	m.rejected = m.counters(rows[nameRejected], nil)
	m.auth = m.counters(rows[nameAuth], nil)
	m.bounces = m.counters(rows[nameBounces], nil)
	m.notices = m.counters(rows[nameNotices], nil)
	m.deliveryTime = m.histograms(rows[nameDeliveryTime], []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 5 * 24 * 3600})
	m.attemptTime = m.histograms(rows[nameAttemptTime], []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300})
	m.dnsQueries = m.counters(rows[nameDNSQueries], nil)
	m.dnsTime = m.histograms(rows[nameDNSTime], []float64{.0005, .001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10})
	m.throttling = m.counters(rows[nameThrottling], nil)
	m.throttleWait = m.histograms(rows[nameThrottleWait], []float64{.01, .05, .25, 1, 2.5, 5, 10, 30, 60, 300, 600})
	m.connsOut = m.gauge(rows[nameConnsOut])
	m.connsIn = m.gauge(rows[nameConnsIn])
	m.reload = m.gauge(rows[nameReload])
	m.certExpiry = m.gauge(rows[nameCertExpiry])
	m.reused = m.counter(rows[nameReused])
	m.handshakesFailed = m.counter(rows[nameHandshakes])
	m.registry.MustRegister(newScrape(m, rows), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.build(rows[nameBuild], o)
	m.positions(rows)
	return m
}

func (m *Metrics) build(r row, o Options) {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + r.name, Help: r.help}, labelNames(r))
	m.registry.MustRegister(vec)
	vec.WithLabelValues(printable(o.Version), printable(o.Revision), runtime.Version()).Set(1)
}

// printable keeps a label valid: client_golang panics on a value that is not UTF-8.
func printable(s string) string { return fmt.Sprintf("%.64s", strings.ToValidUTF8(s, "?")) }

// positions resolves enums to positions, so that no call compares words.
func (m *Metrics) positions(rows map[string]row) {
	m.basis = make([]int, policy.BasisHold+1)
	for b := range m.basis {
		m.basis[b] = bases().index(policy.Basis(b).String())
	}
	reasons := policy.Reasons()
	n := int(slices.Max(reasons)) + 1
	m.lowering, m.protection, m.report = make([]int, n), make([]int, n), make([]int, n)
	for r := range n {
		reason := policy.Reason(r)
		m.lowering[r] = rows[nameDowngrades].axes[2].index(reason.String())
		m.protection[r] = rows[nameRefusals].axes[1].index(reason.String())
		m.report[r] = rows[nameTLSFailures].axes[1].index(reportWord(reason))
	}
}

// position looks up an enum's position; -1, "other", for a stranger.
func position[E ~uint8](list []int, e E) int {
	if int(e) < len(list) {
		return list[e]
	}
	return -1
}

// goesDown reports whether a step from values[0] to values[1] goes down.
func goesDown(values []string) bool {
	from, to := levels().index(values[0]), levels().index(values[1])
	return from > to && values[0] != other || values[0] == other && values[1] == other
}

// lookupHappens leaves out combinations of source and result that cannot be.
func lookupHappens(values []string) bool {
	i := results().index(values[1])
	switch {
	case values[0] == other || values[1] == other:
		return true
	case values[0] == "mta-sts":
		return i >= 4 // unknown, the modes, why there is none
	default:
		return i <= 4 // the answers, unknown
	}
}

// Reloaded notes that the configuration was loaded with success.
func (m *Metrics) Reloaded(at time.Time) { m.reload.Set(seconds(at)) }

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            errorLog{m.log},
		ErrorHandling:       promhttp.ContinueOnError, // one broken source must not blind the operator
		MaxRequestsInFlight: scrapesAtOnce,
		Timeout:             scrapeLimit,
		EnableOpenMetrics:   true,
	})
}

// errorLog takes what promhttp has to complain about.
type errorLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (l errorLog) Println(v ...any) { l.log.Warn("metrics: scrape", "error", fmt.Sprint(v...)) }
