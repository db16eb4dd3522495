package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"havip-cluster/provider"
)

// cloudMetrics is what a node shows of its provider: the leader what it saw, and each node whether it holds calls
// back. A node without a provider shows nothing.
type cloudMetrics struct{ *cloud }

var (
	metricDrift     = prometheus.NewDesc("havip_provider_drift", "Differences between log and cloud at the last look, by kind.", []string{"code"}, nil)
	metricCloudUp   = prometheus.NewDesc("havip_provider_up", "1 when the last look at the cloud brought an answer, else 0.", []string{"kind"}, nil)
	metricCloudAge  = prometheus.NewDesc("havip_provider_observed_age_seconds", "How old the newest answer of the cloud is.", nil, nil)
	metricCircuit   = prometheus.NewDesc("havip_provider_circuit_open", "1 while this node holds its calls to the cloud back, because it did not answer.", []string{"kind"}, nil)
	metricCircuits  = prometheus.NewDesc("havip_provider_circuit_opened_total", "How often this node began to hold its calls to the cloud back.", []string{"kind"}, nil)
	metricCloudLook = prometheus.NewDesc("havip_provider_looks_total", "Looks at the cloud, by outcome.", []string{"outcome"}, nil)
)

// Describe implements prometheus.Collector. It sends nothing: the set of metrics depends on who leads.
func (cloudMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m cloudMetrics) Collect(ch chan<- prometheus.Metric) {
	p, _ := m.Provider()
	if c, ok := p.(provider.Circuit); ok {
		open, opened := c.Circuit()
		ch <- prometheus.MustNewConstMetric(metricCircuit, prometheus.GaugeValue, oneIf(open), p.Kind())
		ch <- prometheus.MustNewConstMetric(metricCircuits, prometheus.CounterValue, float64(opened), p.Kind())
	}
	looks, failed := m.Counts()
	if p == nil || looks == 0 {
		return
	}
	counter := func(outcome string, n uint64) {
		ch <- prometheus.MustNewConstMetric(metricCloudLook, prometheus.CounterValue, float64(n), outcome)
	}
	counter("answered", looks-failed)
	counter("failed", failed)
	last := m.Last()
	if last.At.IsZero() && last.Err == "" {
		return // another node looks
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(metricCloudUp, oneIf(last.Err == ""), p.Kind())
	if last.At.IsZero() {
		return
	}
	gauge(metricCloudAge, time.Since(last.At).Seconds())
	counts := map[provider.Code]int{}
	for _, code := range provider.Codes {
		counts[code] = 0
	}
	for _, w := range m.Drift() {
		counts[w.Code]++
	}
	for code, n := range counts {
		gauge(metricDrift, float64(n), string(code))
	}
}
