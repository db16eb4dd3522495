package agent

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
	"havip-cluster/netdev/fence"
)

// metrics is what this node shows at /metrics beside the API's own counters. It is read
// when asked for; nothing is counted twice.
type metrics struct {
	b     *backend
	fence fence.Fence // nil: none

	figures *figures
}

var (
	metricLeader        = prometheus.NewDesc("havip_leader", "1 in the node that leads.", nil, nil)
	metricRaftLeader    = prometheus.NewDesc("havip_raft_leader", "1 in the node that leads, as havip_leader.", nil, nil)
	metricBuild         = prometheus.NewDesc("havip_build_info", "1, with the version of the program and of Go.", []string{"version", "go"}, nil)
	metricFence         = prometheus.NewDesc("havip_fence_info", "1, with the kind of this node's fence: ebpf, nftables or none.", []string{"kind"}, nil)
	metricOwner         = prometheus.NewDesc("havip_owner", "1 for each HAVIP with an owner, as this node has applied the log.", []string{"havip", "node"}, nil)
	metricUnserved      = prometheus.NewDesc("havip_unserved", "1 for each enabled HAVIP that nobody serves: without an owner, or whose owner has not said that it serves.", []string{"havip"}, nil)
	metricCandidates    = prometheus.NewDesc("havip_candidates", "Nodes that may own the HAVIP now by the rules for one HAVIP, its owner among them; below 2 there is no spare.", []string{"havip"}, nil)
	metricMargin        = prometheus.NewDesc("havip_lease_margin_seconds", "The least that was left of this node's lease when it was extended, in the last one to two minutes; absent without a lease.", nil, nil)
	metricAnnouncements = prometheus.NewDesc("havip_announcements_total", "Announcements of HAVIPs by gratuitous ARP or neighbour advertisement that this node has sent.", nil, nil)

	metricIndex       = prometheus.NewDesc("havip_applied_index", "Log index up to which this node has applied the log.", nil, nil)
	metricSession     = prometheus.NewDesc("havip_session", "Number of this node's session, 0 without one.", nil, nil)
	metricLease       = prometheus.NewDesc("havip_lease_remaining_seconds", "What is left of this node's lease.", nil, nil)
	metricLeaseLength = prometheus.NewDesc("havip_lease_seconds", "The lease of the cluster; while it changes, the longer one.", nil, nil)
	metricHolding     = prometheus.NewDesc("havip_holding", "1 for each HAVIP that this node answers for.", []string{"id", "havip", "eni"}, nil)
	metricHAVIPs      = prometheus.NewDesc("havip_havips", "HAVIPs of the cluster as this node has applied the log, by state.", []string{"state"}, nil)
	metricPending     = prometheus.NewDesc("havip_pending", "HAVIPs whose owner has not said yet that it serves.", nil, nil)
	metricGranted     = prometheus.NewDesc("havip_renewals_granted_total", "Renewals that this voter acknowledged.", nil, nil)
	metricRefused     = prometheus.NewDesc("havip_lease_refusals_total", "Renewals and questions that this voter refused, by reason.", []string{"reason"}, nil)
	metricCertExpiry  = prometheus.NewDesc("havip_certificate_expiry_seconds", "What is left of a certificate of this node (node) and of the CAs that it trusts (ca: the one that ends first); negative once it has ended.", []string{"what"}, nil)

	metricCheckUp = prometheus.NewDesc("havip_check_up", "Of each check that this node runs: 1 passing, 0 failing; no line while it is unknown.", []string{"check", "node"}, nil)

	metricLogBytes = prometheus.NewDesc("havip_log_bytes", "Size of the log's file.", nil, nil)
	metricLogWorst = prometheus.NewDesc("havip_log_write_worst_seconds", "Longest write to the log since the start.", nil, nil)
	metricStalled  = prometheus.NewDesc("havip_log_stalled", "1 while a write to the log hangs.", nil, nil)
	metricUnheard  = prometheus.NewDesc("havip_words_refused_total", "Words of the lease that were not heard, by kind and reason: their sender may not say them.", []string{"kind", "reason"}, nil)
	metricDropped  = prometheus.NewDesc("havip_datagrams_dropped_total", "Datagrams at the lease port that were dropped before they were read, by cause.", []string{"cause"}, nil)
	metricFrames   = prometheus.NewDesc("havip_fence_frames_total", "Frames of managed HAVIPs at the fence.", []string{"direction", "verdict"}, nil)
)

// Describe implements prometheus.Collector. It sends nothing: the set of metrics depends
// on the node's role.
func (metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	local, disk := m.b.Local(), m.b.node.Disk()
	gauge(metricLeader, oneIf(m.b.IsLeader()))
	gauge(metricRaftLeader, oneIf(m.b.IsLeader()))
	gauge(metricBuild, 1, m.b.version, runtime.Version())
	gauge(metricFence, 1, m.b.fence)
	gauge(metricIndex, float64(m.b.node.Applied()))
	gauge(metricSession, float64(local.Session))
	gauge(metricLease, local.LeaseRemaining.Seconds())
	gauge(metricLeaseLength, m.b.State().Cluster.LeaseMax.Seconds())
	if least, ok := m.figures.margin.read(); ok {
		gauge(metricMargin, least.Seconds())
	}
	for _, c := range local.Checks {
		if c.State != fsm.CheckUnknown {
			gauge(metricCheckUp, oneIf(c.State == fsm.CheckPassing), c.Check, m.b.id.Name)
		}
	}
	counter(metricAnnouncements, m.announced())
	granted, refused := m.b.member.Voter.Figures()
	counter(metricGranted, granted)
	for reason, n := range refused {
		counter(metricRefused, n, reason)
	}
	now := time.Now()
	gauge(metricCertExpiry, m.b.id.Leaf().NotAfter.Sub(now).Seconds(), "node")
	gauge(metricCertExpiry, firstEnd(m.b.id).Sub(now).Seconds(), "ca")
	for _, r := range m.b.member.Refused() {
		counter(metricUnheard, r.Count, r.Kind, r.Reason)
	}
	for cause, n := range m.b.datagrams.Dropped() {
		counter(metricDropped, n, cause)
	}
	gauge(metricLogBytes, float64(disk.Bytes))
	gauge(metricLogWorst, disk.Worst.Seconds())
	gauge(metricStalled, oneIf(disk.Stalled))
	m.frames(counter)
}

// announced is 0 in a witness.
func (m metrics) announced() uint64 {
	if m.b.edge == nil {
		return 0
	}
	return m.b.edge.kernel.Announced()
}

// frames shows what the fence has counted.
func (m metrics) frames(counter func(*prometheus.Desc, uint64, ...string)) {
	if m.fence == nil {
		return
	}
	c, err := m.fence.Counters()
	if err != nil {
		return
	}
	for direction, v := range map[string]fence.Verdicts{"ingress": c.Ingress, "egress": c.Egress} {
		counter(metricFrames, v.Open, direction, "open")
		counter(metricFrames, v.Announce, direction, "announce")
		counter(metricFrames, v.Shut, direction, "shut")
		counter(metricFrames, v.Expired, direction, "expired")
	}
}

// firstEnd is when the first of the CAs that a node trusts ends.
func firstEnd(id *identity.Identity) time.Time {
	end := id.Issuer().NotAfter
	for _, a := range id.Anchors() {
		if a.Cert.NotAfter.Before(end) {
			end = a.Cert.NotAfter
		}
	}
	return end
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
