package console

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"havip-cluster/api"
)

func (c *Console) nodePages() {
	c.page("/nodes", nodesPage)
	c.page("/nodes/{name}", nodePage)
	c.change("/nodes/{name}/standby", func(v *visit) (outcome, error) {
		on := true
		return v.nodeChange(api.NodeChange{Standby: &on}, "standby")
	})
	c.change("/nodes/{name}/maintenance", func(v *visit) (outcome, error) {
		on := v.r.PostForm.Get("on") == "yes"
		return v.nodeChange(api.NodeChange{Maintenance: &on}, "maintenance")
	})
	c.change("/nodes/{name}/activate", func(v *visit) (outcome, error) {
		err := v.post(v.ctx, pathTo("v1", "nodes", v.r.PathValue("name"), "activate"), nil, nil, v.key)
		return outcome{To: v.atNode(), Did: "active"}, err
	})
	c.change("/nodes/{name}/drain", drainNode)
	c.change("/nodes/{name}/settings", setNode)
	c.page("/nodes/{name}/remove", removalPage)
	c.change("/nodes/{name}/remove", removeNode)
	c.page("/enis/{id}", eniPage)
	c.change("/enis/{id}", setENI)
}

// nodesData is all nodes with their ENIs.
type nodesData struct {
	Bars []leaseBar
	ENIs []api.ENI
}

func nodesPage(v *visit) (*page, error) {
	var nodes []api.Node
	var cluster api.Cluster
	d := nodesData{}
	if err := errors.Join(v.get(v.ctx, "/v1/nodes", nil, &nodes), v.get(v.ctx, "/v1/cluster", nil, &cluster), v.get(v.ctx, "/v1/enis", nil, &d.ENIs)); err != nil {
		return nil, err
	}
	d.Bars = bars(nodes, cluster.LeaseMS)
	return &page{Title: "Nodes and ENIs", Tab: "nodes", Name: "nodes", Data: d, Topics: []string{topicNodes, topicHAVIPs, topicClock}}, nil
}

// nodeData is one node.
type nodeData struct {
	api.Node
	Bars   []leaseBar
	ENIs   []api.ENI
	Drain  *api.Drain
	HAVIPs []api.HAVIP
	Total  int
	Checks []api.CheckResult
}

func nodePage(v *visit) (*page, error) {
	d := nodeData{}
	name := v.r.PathValue("name")
	var cluster api.Cluster
	var enis []api.ENI
	if err := v.get(v.ctx, pathTo("v1", "nodes", name), nil, &d.Node); err != nil {
		return nil, err
	}
	head, err := v.read(v.ctx, "/v1/havips", url.Values{"node": {d.ID}, "limit": {strconv.Itoa(perPage)}}, &d.HAVIPs)
	if err != nil {
		return nil, err
	}
	d.Total, _ = strconv.Atoi(head.Get("X-Havip-Total"))
	if err := errors.Join(v.get(v.ctx, "/v1/cluster", nil, &cluster), v.get(v.ctx, "/v1/enis", nil, &enis), v.get(v.ctx, "/v1/check-results", url.Values{"node": {d.Node.Name}}, &d.Checks)); err != nil {
		return nil, err
	}
	for _, e := range enis {
		if e.Node == d.Name {
			d.ENIs = append(d.ENIs, e)
		}
	}
	d.Bars = bars([]api.Node{d.Node}, cluster.LeaseMS)
	var drain api.Drain
	if v.get(v.ctx, pathTo("v1", "nodes", d.Name, "drain"), nil, &drain) == nil { // there may never have been one
		d.Drain = &drain
	}
	return &page{Title: d.Name, Tab: "nodes", Name: "node", Data: d, Topics: []string{topicNodes, topicHAVIPs, topicClock}}, nil
}

// atNode is the address of the page of the node of this request.
func (v *visit) atNode() string { return pathTo("nodes", v.r.PathValue("name")) }

func (v *visit) nodeChange(b api.NodeChange, did string) (outcome, error) {
	err := v.send(v.ctx, http.MethodPatch, pathTo("v1", "nodes", v.r.PathValue("name")), nil, b, nil, v.key)
	return outcome{To: v.atNode(), Did: did}, err
}

func drainNode(v *visit) (outcome, error) {
	spec := api.DrainSpec{}
	if text := strings.TrimSpace(v.r.PostForm.Get("deadline")); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Second {
			return outcome{To: v.atNode()}, problemf(http.StatusBadRequest, "deadline %q is not a duration of a second or more, such as 5m", clip(text))
		}
		spec.DeadlineSeconds = int64(d / time.Second)
	}
	err := v.post(v.ctx, pathTo("v1", "nodes", v.r.PathValue("name"), "drain"), spec, nil, v.key)
	return outcome{To: v.atNode(), Did: "drain"}, err
}
