package console

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"havip-cluster/api"
	"havip-cluster/fsm/placement"
)

// perPage is how many HAVIPs a page of the list has. The API searches and cuts, so that ten thousand of
// them cost no more than these.
const perPage = 50

func (c *Console) havipPages() {
	c.page("/havips", havipsPage)
	c.page("/havips/new", newHAVIPPage)
	c.change("/havips/new", createHAVIP)
	c.page("/havips/{id}", havipPage)
	c.page("/havips/{id}/cloud", havipCloudPage)
	c.page("/havips/{id}/edit", editPage)
	c.change("/havips/{id}/edit", editHAVIP)
	c.page("/havips/{id}/move", movePage)
	c.change("/havips/{id}/move", moveHAVIP)
	c.page("/havips/{id}/delete", deletePage)
	c.change("/havips/{id}/delete", deleteHAVIP)
	c.change("/havips/{id}/enable", func(v *visit) (outcome, error) { return v.havipAction("enable", "enabled", nil) })
	c.change("/havips/{id}/disable", func(v *visit) (outcome, error) { return v.havipAction("disable", "disabled", nil) })
	c.change("/havips/{id}/eip", bindEIP)
	c.change("/havips/{id}/eip/unbind", unbindEIP)
	c.change("/havips/{id}/failures", clearFailures)
}

// listData is a page of the list of HAVIPs.
type listData struct {
	HAVIPs                      []api.HAVIP
	Search, State, Node, Subnet string
	Total, From, To             int
	Earlier, Later              string // addresses; "" = none
	Nodes                       []string
	Subnets                     []string
}

func havipsPage(v *visit) (*page, error) {
	q := v.r.URL.Query()
	d := listData{Search: q.Get("search"), State: q.Get("state"), Node: q.Get("node"), Subnet: q.Get("subnet")}
	ask := url.Values{"limit": {strconv.Itoa(perPage)}}
	for _, f := range []struct{ name, value string }{{"search", d.Search}, {"state", d.State}, {"node", d.Node}, {"subnet", d.Subnet}} {
		if f.value != "" {
			ask.Set(f.name, f.value)
		}
	}
	offset, err := strconv.Atoi(cmp.Or(q.Get("offset"), "0"))
	if err != nil || offset < 0 {
		return nil, problemf(http.StatusBadRequest, "offset %q is not a whole number", clip(q.Get("offset")))
	}
	here := url.Values{}
	for k := range ask {
		if k != "limit" {
			here.Set(k, ask.Get(k))
		}
	}
	ask.Set("offset", strconv.Itoa(offset))
	head, err := v.read(v.ctx, "/v1/havips", ask, &d.HAVIPs)
	if err != nil {
		return nil, err
	}
	d.Total, _ = strconv.Atoi(head.Get("X-Havip-Total"))
	d.From, d.To = min(offset+1, d.Total), offset+len(d.HAVIPs)
	if offset > 0 {
		d.Earlier = pageAt(here, max(0, offset-perPage))
	}
	if d.To < d.Total {
		d.Later = pageAt(here, offset+perPage)
	}
	if d.Nodes, d.Subnets, err = v.names(); err != nil {
		return nil, err
	}
	return &page{Title: "HAVIPs", Tab: "havips", Name: "havips", Data: d, Topics: []string{topicHAVIPs}}, nil
}

func pageAt(q url.Values, offset int) string {
	if offset > 0 {
		q.Set("offset", strconv.Itoa(offset))
	} else {
		q.Del("offset")
	}
	return "/havips?" + q.Encode()
}

// names are those of all nodes and subnets.
func (v *visit) names() (nodes, subnets []string, err error) {
	var n []api.Node
	var s []api.Subnet
	if err := errors.Join(v.get(v.ctx, "/v1/nodes", nil, &n), v.get(v.ctx, "/v1/subnets", nil, &s)); err != nil {
		return nil, nil, err
	}
	for _, one := range n {
		nodes = append(nodes, one.Name)
	}
	for _, one := range s {
		subnets = append(subnets, one.Name)
	}
	return nodes, subnets, nil
}

// detailData is everything about one HAVIP.
type detailData struct {
	api.HAVIP
	State     state
	Explain   api.Explanation
	Events    []api.Event
	Failovers []timeline
	Targets   []string
}

// historyMax is how many events and failovers the page of a HAVIP shows.
const historyMax = 20

func havipPage(v *visit) (*page, error) {
	name := v.r.PathValue("id")
	d := detailData{}
	if err := v.get(v.ctx, pathTo("v1", "havips", name), nil, &d.HAVIP); err != nil {
		return nil, err
	}
	d.State = stateOf(d.HAVIP)
	if err := v.get(v.ctx, pathTo("v1", "havips", d.ID, "explain"), nil, &d.Explain); err != nil {
		return nil, err
	}
	var failovers []api.Failover
	if err := v.get(v.ctx, "/v1/failovers", url.Values{"havip": {d.ID}}, &failovers); err != nil {
		return nil, err
	}
	if err := v.get(v.ctx, "/v1/events", url.Values{"havip": {d.ID}}, &d.Events); err != nil {
		return nil, err
	}
	d.Events = newest(d.Events, historyMax)
	for _, f := range newest(failovers, historyMax) {
		d.Failovers = append(d.Failovers, timelineOf(f))
	}
	slices.SortStableFunc(d.Explain.Candidates, func(a, b placement.Candidate) int {
		if a.Eligible != b.Eligible {
			return map[bool]int{true: -1, false: 1}[a.Eligible]
		}
		return cmp.Compare(b.Score, a.Score)
	})
	return &page{Title: d.Name, Tab: "havips", Name: "havip", Data: d, Topics: []string{topicHAVIPs, topicFailovers, topicNodes}}, nil
}

// newest is the end of a list, newest first.
func newest[T any](list []T, most int) []T {
	out := slices.Clone(list[max(0, len(list)-most):])
	slices.Reverse(out)
	return out
}

// one is the HAVIP of a page's address.
func (v *visit) one() (api.HAVIP, error) {
	var out api.HAVIP
	err := v.get(v.ctx, pathTo("v1", "havips", v.r.PathValue("id")), nil, &out)
	return out, err
}

// here is the address of the page of the HAVIP of this request.
func (v *visit) here() string { return pathTo("havips", v.r.PathValue("id")) }

// havipAction is a change without a body.
func (v *visit) havipAction(action, did string, body any) (outcome, error) {
	err := v.post(v.ctx, pathTo("v1", "havips", v.r.PathValue("id"), action), body, nil, v.key)
	return outcome{To: v.here(), Did: did}, err
}

// moveData is where a HAVIP could go.
type moveData struct {
	api.HAVIP
	Explain api.Explanation
}

func movePage(v *visit) (*page, error) {
	d := moveData{}
	var err error
	if d.HAVIP, err = v.one(); err != nil {
		return nil, err
	}
	if err := v.get(v.ctx, pathTo("v1", "havips", d.ID, "explain"), nil, &d.Explain); err != nil {
		return nil, err
	}
	return &page{Title: "Move " + d.Name, Tab: "havips", Name: "havip-move", Data: d, Form: true}, nil
}

func moveHAVIP(v *visit) (outcome, error) {
	out, err := v.havipAction("move", "moved", api.MoveTarget{To: v.r.PostForm.Get("to")})
	if err != nil {
		out.Page, _ = movePage(v)
	}
	return out, err
}

func deletePage(v *visit) (*page, error) {
	d, err := v.one()
	if err != nil {
		return nil, err
	}
	return &page{Title: "Delete " + d.Name, Tab: "havips", Name: "havip-delete", Data: d, Form: true}, nil
}

func deleteHAVIP(v *visit) (outcome, error) {
	q := url.Values{}
	if v.r.PostForm.Get("release") == "yes" {
		q.Set("release", "true")
	}
	if v.r.PostForm.Get("sure") != "yes" {
		p, _ := deletePage(v)
		return outcome{To: v.here(), Page: p}, problemf(http.StatusBadRequest, "Say that you are sure: tick the box.")
	}
	err := v.send(v.ctx, http.MethodDelete, pathTo("v1", "havips", v.r.PathValue("id")), q, nil, nil, v.key)
	out := outcome{To: "/havips", Did: "deleted"}
	if err != nil {
		out.Page, _ = deletePage(v)
	}
	return out, err
}

func bindEIP(v *visit) (outcome, error) {
	return v.havipAction("eip", "bound", api.EIPSpec{EIP: v.r.PostForm.Get("eip")})
}

func unbindEIP(v *visit) (outcome, error) {
	err := v.send(v.ctx, http.MethodDelete, pathTo("v1", "havips", v.r.PathValue("id"), "eip"), nil, nil, nil, v.key)
	return outcome{To: v.here(), Did: "unbound"}, err
}

func clearFailures(v *visit) (outcome, error) {
	err := v.send(v.ctx, http.MethodDelete, "/v1/failures", url.Values{"havip": {v.r.PathValue("id")}}, nil, nil, v.key)
	return outcome{To: v.here(), Did: "cleared"}, err
}
