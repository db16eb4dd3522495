package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"havip-cluster/api"
)

// eniData is one ENI, with what an operator may say of it.
type eniData struct {
	api.ENI
	Subnets []string // that it may be said to be in
	Subnet  string   // chosen in the form; "" = as its addresses say
	Primary string   // chosen in the form: yes or no
}

func eniPage(v *visit) (*page, error) {
	d := eniData{}
	var subnets []api.Subnet
	if err := errors.Join(v.get(v.ctx, pathTo("v1", "enis", v.r.PathValue("id")), nil, &d.ENI), v.get(v.ctx, "/v1/subnets", nil, &subnets)); err != nil {
		return nil, err
	}
	for _, s := range subnets {
		d.Subnets = append(d.Subnets, s.Name)
	}
	slices.Sort(d.Subnets)
	d.Subnet, d.Primary = text(d.SetSubnet), yesNo(d.ENI.Primary)
	return &page{Title: d.ENI.ID, Tab: "nodes", Name: "eni", Data: d, Topics: []string{topicNodes, topicHAVIPs}}, nil
}

func yesNo(on bool) string {
	if on {
		return "yes"
	}
	return "no"
}

// setENI says of an ENI what its host cannot know. What the form leaves as it is is not said.
func setENI(v *visit) (outcome, error) {
	to := pathTo("enis", v.r.PathValue("id"))
	var old api.ENI
	if err := v.get(v.ctx, pathTo("v1", "enis", v.r.PathValue("id")), nil, &old); err != nil {
		return outcome{To: "/nodes"}, err
	}
	change := api.ENIChange{}
	if subnet := v.r.PostForm.Get("subnet"); subnet != text(old.SetSubnet) {
		change.Subnet = &subnet
	}
	if primary := v.r.PostForm.Get("primary"); primary != yesNo(old.Primary) {
		on, err := choice("primary", primary)
		if err != nil {
			return outcome{To: to}, err
		}
		change.Primary = &on
	}
	if change == (api.ENIChange{}) {
		return outcome{To: to}, problemf(http.StatusBadRequest, "Nothing is otherwise than it is: choose another subnet, or say whether it is primary.")
	}
	err := v.send(v.ctx, http.MethodPatch, pathTo("v1", "enis", old.ID), nil, change, nil, v.key)
	return outcome{To: to, Did: "changed"}, err
}

func choice(name, value string) (bool, error) {
	switch value {
	case "yes":
		return true, nil
	case "no":
		return false, nil
	}
	return false, problemf(http.StatusBadRequest, "%s is yes or no, not %q", name, clip(value))
}

// setNode changes the capacity and the score of a node.
func setNode(v *visit) (outcome, error) {
	f, b := v.r.PostForm, api.NodeChange{}
	var old api.Node
	if err := v.get(v.ctx, pathTo("v1", "nodes", v.r.PathValue("name")), nil, &old); err != nil {
		return outcome{To: "/nodes"}, err
	}
	score, err := strconv.Atoi(strings.TrimSpace(f.Get("score")))
	if err != nil {
		return outcome{To: v.atNode()}, problemf(http.StatusBadRequest, "score %q is not a whole number", clip(f.Get("score")))
	}
	if score != old.Score {
		b.Score = &score
	}
	switch text := strings.TrimSpace(f.Get("capacity")); {
	case text == "":
		b.NoCapacity = old.Capacity != nil
	default:
		n, err := strconv.Atoi(text)
		if err != nil {
			return outcome{To: v.atNode()}, problemf(http.StatusBadRequest, "capacity %q is not a whole number; leave it empty for none", clip(text))
		}
		if old.Capacity == nil || *old.Capacity != n {
			b.Capacity = &n
		}
	}
	if b == (api.NodeChange{}) {
		return outcome{To: v.atNode()}, problemf(http.StatusBadRequest, "Nothing is otherwise than it is: type another capacity or score.")
	}
	return v.nodeChange(b, "changed")
}

// removalData is what the removal of a node would do, before it is done.
type removalData struct {
	api.Node
	planData
	Here     bool // this page is answered by that very node
	HoldsCA  bool
	Voters   int // now
	CannotSo string
}

func removalPage(v *visit) (*page, error) {
	d := removalData{}
	var cluster api.Cluster
	if err := errors.Join(v.get(v.ctx, pathTo("v1", "nodes", v.r.PathValue("name")), nil, &d.Node), v.get(v.ctx, "/v1/cluster", nil, &cluster)); err != nil {
		return nil, err
	}
	d.Here, d.HoldsCA, d.Voters = d.Name == v.self.Node, slices.Contains(cluster.CAHeldBy, d.Name), cluster.Voters
	p := &page{Title: "Remove " + d.Name, Tab: "nodes", Name: "node-remove", Data: &d, Form: true}
	if err := v.suppose(api.PlanSpec{Down: []string{d.Name}}, &d.planData); err != nil {
		d.CannotSo = asProblem(err).Detail
	}
	return p, nil
}

// removeNode asks for the removal. It waits for the node's lease, as the verb does.
func removeNode(v *visit) (outcome, error) {
	f, name := v.r.PostForm, v.r.PathValue("name")
	if f.Get("sure") != name {
		p, err := removalPage(v)
		if err != nil {
			return outcome{To: v.atNode()}, err
		}
		return outcome{Page: p}, problemf(http.StatusBadRequest, "Type the node's name, %s, so that it is this one.", name)
	}
	q := url.Values{}
	for _, flag := range []string{"force", "keep_ca"} {
		if f.Get(flag) == "yes" {
			q.Set(flag, "true")
		}
	}
	_, err := v.do(v.ctx, question{method: http.MethodDelete, path: pathTo("v1", "nodes", name), query: q, key: v.key, wait: removeWait})
	if err != nil {
		p, pageErr := removalPage(v)
		if pageErr != nil {
			return outcome{To: "/nodes"}, err
		}
		return outcome{Page: p}, err
	}
	return outcome{To: "/nodes", Did: "removed"}, nil
}
