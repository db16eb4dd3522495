package agent

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"havip-cluster/api"
	"havip-cluster/fsm"
)

// havipMetrics makes the series of each HAVIP, and keeps them for the next scrape while nothing changes: with 10,000
// HAVIPs making, checking and sorting them takes longer than sending them.
type havipMetrics struct {
	b          *backend
	candidates candidates

	mu       sync.Mutex
	state    *fsm.State
	counts   map[string]int
	observed []api.Observation
	families []*dto.MetricFamily
}

// Gather implements prometheus.Gatherer.
func (m *havipMetrics) Gather() ([]*dto.MetricFamily, error) {
	return m.gather(m.b.State(), m.b.Local().Observed, time.Now())
}

func (m *havipMetrics) gather(s *fsm.State, observed []api.Observation, now time.Time) ([]*dto.MetricFamily, error) {
	counts := m.candidates.of(s, now)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.families != nil && m.state == s && maps.Equal(m.counts, counts) && slices.Equal(m.observed, observed) {
		return m.families, nil
	}
	r := prometheus.NewRegistry()
	if err := r.Register(collected(append(havipSeries(s, counts), heldSeries(observed)...))); err != nil {
		return nil, err
	}
	families, err := r.Gather()
	if err == nil {
		m.state, m.counts, m.observed, m.families = s, counts, observed, families
	}
	return families, err
}

// collected implements prometheus.Collector.
type collected []prometheus.Metric

func (collected) Describe(chan<- *prometheus.Desc) {}

func (c collected) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c {
		ch <- m
	}
}

// heldSeries are those of what this node answers for. Like havipSeries it keeps the order of the labels, which the
// registry has to bring about otherwise.
func heldSeries(observed []api.Observation) (out []prometheus.Metric) {
	byLabels := func(a, b api.Observation) int {
		return cmp.Or(cmp.Compare(a.ENI, b.ENI), cmp.Compare(a.HAVIP, b.HAVIP), cmp.Compare(a.ID, b.ID))
	}
	for _, o := range slices.SortedFunc(slices.Values(observed), byLabels) {
		out = append(out, prometheus.MustNewConstMetric(metricHolding, prometheus.GaugeValue, oneIf(o.Present && o.Open), o.ID, o.HAVIP, o.ENI))
	}
	return out
}

func havipSeries(s *fsm.State, counts map[string]int) (out []prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out = append(out, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...))
	}
	label := havipLabels(s)
	list := make([]labelled, 0, len(s.HAVIPs))
	for _, v := range s.HAVIPs {
		list = append(list, labelled{v, label(v)})
	}
	slices.SortFunc(list, func(a, b labelled) int { return cmp.Compare(a.label, b.label) })
	states := map[fsm.Serving]int{fsm.Available: 0, fsm.Pending: 0, fsm.Unbound: 0}
	for _, v := range list {
		serving := s.Serving(v.HAVIP)
		states[serving]++
		gauge(metricCandidates, float64(counts[v.ID]), v.label)
		if v.Owner != nil {
			gauge(metricOwner, 1, v.label, s.NodeName(v.Owner.Node))
		}
		if serving != fsm.Available && !v.Disabled && !v.Deleting {
			gauge(metricUnserved, 1, v.label)
		}
	}
	for state, n := range states {
		gauge(metricHAVIPs, float64(n), string(state))
	}
	gauge(metricPending, float64(states[fsm.Pending]))
	return out
}

// labelled is a HAVIP with its label in the metrics.
type labelled struct {
	fsm.HAVIP
	label string
}

// havipLabels gives each HAVIP a label of its own: its name, and its id too where two have one name.
func havipLabels(s *fsm.State) func(fsm.HAVIP) string {
	count := make(map[string]int, len(s.HAVIPs))
	for _, v := range s.HAVIPs {
		count[v.Name]++
	}
	return func(v fsm.HAVIP) string {
		if count[v.Name] > 1 {
			return v.Name + " (" + v.ID + ")"
		}
		return v.Name
	}
}
