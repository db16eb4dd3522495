package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"havip-cluster/api"
)

// clusterData is the settings of the whole.
type clusterData struct {
	api.Cluster
	HostLoss  string // about how long the loss of a host takes with this lease
	CertLife  string
	SnapEvery string
	Was       string // see shownCluster
}

// hostLoss is about how long it takes until another node serves after a host is lost: by the time that the
// lease holds nobody else may, and the decision, the address and its announcement come on top. The README has
// what was measured.
func hostLoss(leaseMS int64) string {
	from := time.Duration(leaseMS) * time.Millisecond
	return fmt.Sprintf("%d to %d ms", from.Milliseconds(), (from + from/2 + 50*time.Millisecond).Round(10*time.Millisecond).Milliseconds())
}

func clusterPage(v *visit) (*page, error) {
	d := clusterData{}
	if err := v.get(v.ctx, "/v1/cluster", nil, &d.Cluster); err != nil {
		return nil, err
	}
	return clusterForm(d), nil
}

func clusterForm(d clusterData) *page {
	d.HostLoss = hostLoss(d.LeaseMS)
	d.CertLife, d.SnapEvery, d.Was = "", "", asText(shownClusterOf(d.Cluster))
	if d.CertificateLifeS > 0 {
		d.CertLife = (time.Duration(d.CertificateLifeS) * time.Second).String()
	}
	if d.SnapshotEveryS > 0 {
		d.SnapEvery = (time.Duration(d.SnapshotEveryS) * time.Second).String()
	}
	return &page{Title: "Settings of the cluster", Tab: "cluster", Name: "cluster", Data: d, Form: true}
}

// changeCluster sends what a form says otherwise than things are. The length of the lease is a form of its own,
// because it is a change by itself.
func changeCluster(v *visit) (outcome, error) {
	d := clusterData{}
	if err := v.get(v.ctx, "/v1/cluster", nil, &d.Cluster); err != nil {
		return outcome{To: "/cluster"}, err
	}
	shown := was(v.r.PostForm.Get("was"), shownClusterOf(d.Cluster))
	body, query, err := clusterChange(shown.over(d.Cluster), v.r.PostForm)
	if err == nil {
		err = contested(shown, shownClusterOf(d.Cluster), body)
	}
	if err == nil {
		err = v.send(v.ctx, http.MethodPatch, "/v1/cluster", query, body, nil, v.key)
	}
	return outcome{To: "/cluster", Did: "changed", Page: onlyIf(err, clusterForm(d))}, err
}

func clusterChange(old api.Cluster, f url.Values) (api.ClusterChange, url.Values, error) {
	out, query := api.ClusterChange{}, url.Values{}
	switch f.Get("form") {
	case "lease":
		lease, err := time.ParseDuration(strings.TrimSpace(f.Get("lease")))
		if err != nil || lease < time.Millisecond {
			return out, nil, problemf(http.StatusBadRequest, "the lease %q is not a duration such as 500ms", clip(f.Get("lease")))
		}
		ms := lease.Milliseconds()
		out.LeaseMS = &ms
		if f.Get("force") == "yes" {
			query.Set("force", "true")
		}
		return out, query, nil
	case "maintenance":
		on := f.Get("on") == "yes"
		out.Maintenance = &on
		return out, nil, nil
	}
	for _, n := range []struct {
		name string
		old  int
		to   **int
	}{
		{"per_eni", old.Limits.PerENI, &out.PerENI}, {"per_node", old.Limits.PerNode, &out.PerNode},
		{"ca_holders", old.CAHolders, &out.CAHolders}, {"snapshot_keep", old.SnapshotKeep, &out.SnapshotKeep},
	} {
		got, err := strconv.Atoi(strings.TrimSpace(f.Get(n.name)))
		if err != nil {
			return out, nil, problemf(http.StatusBadRequest, "%s %q is not a whole number", n.name, clip(f.Get(n.name)))
		}
		if got != n.old {
			*n.to = &got
		}
	}
	for _, n := range []struct {
		name string
		old  int64
		to   **int64
	}{{"certificate_life", old.CertificateLifeS, &out.CertificateLifeS}, {"snapshot_every", old.SnapshotEveryS, &out.SnapshotEveryS}} {
		got := int64(0)
		if text := strings.TrimSpace(f.Get(n.name)); text != "" && text != "0" {
			d, err := time.ParseDuration(text)
			if err != nil {
				return out, nil, problemf(http.StatusBadRequest, "%s %q is not a duration such as 24h", n.name, clip(text))
			}
			got = int64(d / time.Second)
		}
		if got != n.old {
			*n.to = &got
		}
	}
	if r := f.Get("rebalance"); r != old.Rebalance {
		out.Rebalance = &r
	}
	if p := f.Get("provider"); p != old.Provider.Name {
		out.Provider = &p
	}
	return out, nil, nil
}
