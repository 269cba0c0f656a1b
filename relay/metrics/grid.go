package metrics

import "github.com/prometheus/client_golang/prometheus"

// grid is a family of counters or histograms, one cell for each combination of
// its axes' words, resolved once.
type grid[C any] struct {
	cells []C
	axes  []axis
}

// newGrid resolves every cell, in row-major order. Resolving a combination also
// makes its series exist, at 0. cell returns false for one that cannot happen.
func newGrid[C any](axes []axis, cell func(values []string) (C, bool)) *grid[C] {
	g := &grid[C]{axes: axes}
	g.fill(nil, cell)
	return g
}

func (g *grid[C]) fill(values []string, cell func([]string) (C, bool)) {
	if len(values) == len(g.axes) {
		c, _ := cell(values)
		g.cells = append(g.cells, c)
		return
	}
	for _, word := range g.axes[len(values)].words {
		g.fill(append(values[:len(values):len(values)], word), cell)
	}
}

// at1 to at4 return a cell by positions on the axes; a position outside is the
// last one, "other".
func (g *grid[C]) at1(i int) C       { return g.cells[g.clamp(0, i)] }
func (g *grid[C]) at2(i, j int) C    { return g.cells[g.next(g.clamp(0, i), 1, j)] }
func (g *grid[C]) at3(i, j, k int) C { return g.cells[g.next(g.next(g.clamp(0, i), 1, j), 2, k)] }
func (g *grid[C]) at4(i, j, k, l int) C {
	return g.cells[g.next(g.next(g.next(g.clamp(0, i), 1, j), 2, k), 3, l)]
}

func (g *grid[C]) next(at, n, i int) int { return at*len(g.axes[n].words) + g.clamp(n, i) }

func (g *grid[C]) clamp(n, i int) int {
	last := len(g.axes[n].words) - 1
	if i < 0 || i > last {
		return last
	}
	return i
}

// counters makes a grid of counters for a row.
func (m *Metrics) counters(r row, possible func(values []string) bool) *grid[prometheus.Counter] {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + r.name, Help: r.help}, labelNames(r))
	m.registry.MustRegister(vec)
	return newGrid(r.axes, func(values []string) (prometheus.Counter, bool) {
		if possible != nil && !possible(values) {
			return nil, false
		}
		return vec.WithLabelValues(values...), true
	})
}

// histograms makes a grid of histograms with classic and native buckets.
func (m *Metrics) histograms(r row, buckets []float64) *grid[prometheus.Observer] {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: prefix + r.name, Help: r.help, Buckets: buckets,
		NativeHistogramBucketFactor:     nativeFactor,
		NativeHistogramMaxBucketNumber:  nativeBuckets,
		NativeHistogramMinResetDuration: nativeReset,
	}, labelNames(r))
	m.registry.MustRegister(vec)
	return newGrid(r.axes, func(values []string) (prometheus.Observer, bool) {
		return vec.WithLabelValues(values...), true
	})
}

func (m *Metrics) gauge(r row) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + r.name, Help: r.help})
	m.registry.MustRegister(g)
	return g
}

func (m *Metrics) counter(r row) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + r.name, Help: r.help})
	m.registry.MustRegister(c)
	return c
}

func labelNames(r row) []string {
	names := make([]string, len(r.axes))
	for i, a := range r.axes {
		names[i] = a.label
	}
	return names
}
