package console

import (
	"net/url"

	"havip-cluster/api"
)

// overviewData is what needs attention, and how things are.
type overviewData struct {
	api.Status
	Served, Disabled int
	// Bars are the leases of the members.
	Bars []leaseBar
}

// leaseBar is how much of its lease a node has left.
type leaseBar struct {
	api.Node
	LeaseMS, Low int64 // milliseconds; below Low the margin is small
	Tone, Says   string
}

func overview(v *visit) (*page, error) {
	d := overviewData{}
	if err := v.get(v.ctx, "/v1/status", url.Values{"brief": {"true"}}, &d.Status); err != nil {
		return nil, err
	}
	d.Served = d.Owned - d.Pending
	d.Disabled = max(0, d.HAVIPs-d.Owned-d.Unowned)
	d.Bars = bars(d.Members, d.LeaseMS)
	return &page{Title: "Overview", Tab: "overview", Name: "overview", Data: d, Topics: []string{topicHAVIPs, topicNodes, topicConfig, topicClock}}, nil
}

func bars(nodes []api.Node, lease int64) []leaseBar {
	var out []leaseBar
	for _, n := range nodes {
		b := leaseBar{Node: n, LeaseMS: max(1, lease), Low: max(1, lease) / 3, Tone: "good", Says: n.Status}
		switch {
		case n.Status == api.StatusLost || n.Status == api.StatusLeft:
			b.Tone = "bad"
		case n.Session == 0:
			b.Tone, b.Says = "warn", n.Status+", no session"
		case n.Status != api.StatusAlive:
			b.Tone = "warn"
		case n.Standby || n.Maintenance || n.Draining || n.Removing:
			b.Tone, b.Says = "off", setAside(n)
		}
		b.LeaseRemainingMS = min(b.LeaseRemainingMS, b.LeaseMS)
		out = append(out, b)
	}
	return out
}

// setAside is why a node gets nothing.
func setAside(n api.Node) string {
	switch {
	case n.Removing:
		return "being removed"
	case n.Draining:
		return "drained"
	case n.Standby:
		return "standby"
	case n.Maintenance:
		return "maintenance"
	}
	return n.Status
}
