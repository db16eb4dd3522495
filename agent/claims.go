package agent

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"havip-cluster/failover/owner"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
	"havip-cluster/provider"
	"havip-cluster/provider/claimer"
)

// newClaims makes what claims addresses where a call moves them. It does nothing before run.
func (a *node) newClaims() *claimer.Claimer {
	return claimer.New(claimer.Config{
		Claimer: func() provider.Claimer {
			p, _ := a.cloud.Provider()
			if p == nil || !p.Caps().ClaimByAPI {
				return nil
			}
			c, _ := p.(provider.Claimer)
			return c
		},
		Serving: a.serving,
		Stands:  func(c provider.Claim) { a.member.Agent.SentHere(c.HAVIP, fsm.Epoch(c.Epoch)) },
		Log:     a.log,
	})
}

// serving lists what stands here under the lease that is held now.
func (a *node) serving() []provider.Claim {
	if a.member.Agent == nil {
		return nil
	}
	_, deadline := a.member.Session.Lease()
	left := deadline.Sub(ports.Boot())
	if left <= 0 {
		return nil
	}
	end, name := time.Now().Add(left), a.node.State().NodeName(a.id.NodeID)
	var out []provider.Claim
	for _, s := range a.member.Agent.Activations() {
		if !s.Stands || s.Leaving {
			continue
		}
		out = append(out, provider.Claim{
			HAVIP: s.HAVIP.ID, Name: s.HAVIP.Name, Address: s.HAVIP.IP, Node: name, ENI: s.ENI.ID, Device: s.ENI.Device, MAC: s.ENI.MAC,
			Epoch: uint64(s.Claim.Epoch), Deadline: end,
		})
	}
	return out
}

// changed hears what becomes of HAVIPs here: the hooks run, and the cloud is told. It does not block.
func (a *node) changed(c owner.Change) {
	a.hooks.Changed(c)
	if a.claims != nil {
		a.claims.Wake()
	}
}

// sent reports whether clients find here what stands here.
func (a *node) sent(havip string, epoch fsm.Epoch) bool {
	return a.claims == nil || a.claims.Stands(havip, uint64(epoch))
}

// claimWarningsMax bounds the lines of a status about claims.
const claimWarningsMax = 5

// claimWarnings says what stands here and is not sent here by the cloud.
func (a *node) claimWarnings() []string {
	var out []string
	waiting := a.claims.Waiting()
	for _, w := range waiting[:min(len(waiting), claimWarningsMax)] {
		text := fmt.Sprintf("HAVIP %s is served here, and the cloud does not send %v here yet", w.Claim.Name, w.Claim.Address)
		if w.Failure != "" {
			text += ": " + w.Failure + "; `provider test` asks the cloud once"
		}
		out = append(out, text)
	}
	if more := len(waiting) - claimWarningsMax; more > 0 {
		out = append(out, fmt.Sprintf("%d more HAVIPs are served here, and the cloud does not send them here yet", more))
	}
	return out
}

// claimMetrics is what a node shows of its calls.
type claimMetrics struct{ *claimer.Claimer }

var (
	metricClaimCalls = prometheus.NewDesc("havip_provider_claim_calls_total", "Calls with which this node claims addresses in the cloud, by outcome.", []string{"outcome"}, nil)
	metricClaimWaits = prometheus.NewDesc("havip_provider_claims_waiting", "HAVIPs that are served here and that the cloud does not send here yet.", nil, nil)
)

// Describe implements prometheus.Collector.
func (claimMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- metricClaimCalls
	ch <- metricClaimWaits
}

// Collect implements prometheus.Collector.
func (m claimMetrics) Collect(ch chan<- prometheus.Metric) {
	calls, failed := m.Counts()
	ch <- prometheus.MustNewConstMetric(metricClaimCalls, prometheus.CounterValue, float64(calls-failed), "answered")
	ch <- prometheus.MustNewConstMetric(metricClaimCalls, prometheus.CounterValue, float64(failed), "failed")
	ch <- prometheus.MustNewConstMetric(metricClaimWaits, prometheus.GaugeValue, float64(len(m.Waiting())))
}
