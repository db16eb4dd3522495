package api

import (
	"context"
	"math"
	"net/http"
	"slices"
	"time"

	"havip-cluster/fsm"
)

// GroupSpec is a new group.
type GroupSpec struct {
	Name   string   `json:"name"`
	Kind   string   `json:"kind" enum:"together,apart"`
	Hard   *bool    `json:"hard,omitempty" doc:"Absent: true, rather no owner than against the group"`
	HAVIPs []string `json:"havips" doc:"Names or ids, two or more"`
}

// Group is HAVIPs that are placed together or apart.
type Group struct {
	Name   string   `json:"name"`
	Kind   string   `json:"kind" enum:"together,apart"`
	Hard   bool     `json:"hard"`
	HAVIPs []string `json:"havips" doc:"Names; ids where a name is not unique"`
	Kept   bool     `json:"kept" doc:"The present owners are as the group wishes"`
}

// EIPSpec names an elastic address.
type EIPSpec struct {
	EIP string `json:"eip" minLength:"1"`
}

type groupCreate struct {
	Key
	Body GroupSpec
}

// failuresClear says whose failures are forgotten.
type failuresClear struct {
	Key
	HAVIP string `query:"havip" doc:"Id or name; absent: of all"`
	Node  string `query:"node" doc:"Name or id; absent: on all"`
}

// policyRoutes are what an operator wishes of the placement.
func (s *Server) policyRoutes() {
	read(s, "/v1/groups", "list-groups", "All groups", func(st *fsm.State, _ *Consistency) ([]Group, error) {
		out, unique := []Group{}, uniqueNames(st)
		for _, g := range st.GroupList() {
			out = append(out, groupView(st, g, unique))
		}
		return out, nil
	})
	read(s, "/v1/groups/{name}", "show-group", "One group", func(st *fsm.State, in *namePath) (Group, error) {
		return showGroup(st, in.Name)
	})
	create(s, "/v1/groups", "create-group", "Place HAVIPs together or apart",
		func(ctx context.Context, in *groupCreate) (fsm.Result, error) {
			b := in.Body
			return s.commit(ctx, in.Key.Key, one(fsm.CreateGroup{Group: fsm.Group{
				Name: b.Name, Kind: fsm.GroupKind(b.Kind), Hard: b.Hard == nil || *b.Hard, HAVIPs: b.HAVIPs,
			}}))
		}, func(st *fsm.State, in *groupCreate, _ fsm.Result) (Group, error) { return showGroup(st, in.Body.Name) })
	write(s, http.MethodDelete, "/v1/groups/{name}", "delete-group", "Delete a group; its HAVIPs stay",
		func(ctx context.Context, in *nameChange) (fsm.Result, error) {
			return s.commit(ctx, in.Key.Key, one(fsm.DeleteGroup{Name: in.Name}))
		}, done)

	write(s, http.MethodPost, "/v1/havips/{id}/eip", "bind-eip", "Give a HAVIP an elastic address: in the log, and after that in the cloud where there is a provider",
		func(ctx context.Context, in *havipBody[EIPSpec]) (fsm.Result, error) {
			eip, err := parseEIP(in.Body.EIP)
			if err != nil {
				return fsm.Result{}, err
			}
			return s.followedByCloud(ctx, in.Key.Key, in.ID, func(v fsm.HAVIP) fsm.Body { return fsm.BindEIP{ID: v.ID, EIP: eip} })
		}, showHAVIP)
	write(s, http.MethodDelete, "/v1/havips/{id}/eip", "unbind-eip", "Take it away, in the same way",
		func(ctx context.Context, in *havipChange) (fsm.Result, error) {
			return s.followedByCloud(ctx, in.Key.Key, in.ID, func(v fsm.HAVIP) fsm.Body { return fsm.UnbindEIP{ID: v.ID} })
		}, showHAVIP)
	write(s, http.MethodDelete, "/v1/failures", "clear-failures", "Forget failures, and the pauses after them", s.clearFailures, done)
	s.drainRoutes()
}

func showGroup(st *fsm.State, name string) (Group, error) {
	g, ok := st.Groups[name]
	if !ok {
		return Group{}, fsm.Refuse(fsm.CodeNotFound, "no group is called %q; `group list` shows those there are", name)
	}
	return groupView(st, g, uniqueNames(st)), nil
}

// uniqueNames says of each name of a HAVIP whether it is the only one of that name.
func uniqueNames(st *fsm.State) map[string]bool {
	out := make(map[string]bool, len(st.HAVIPs))
	for _, v := range st.HAVIPs {
		_, seen := out[v.Name]
		out[v.Name] = !seen
	}
	return out
}

func groupView(st *fsm.State, g fsm.Group, unique map[string]bool) Group {
	out := Group{Name: g.Name, Kind: string(g.Kind), Hard: g.Hard, HAVIPs: []string{}, Kept: true}
	nodes := map[string]int{}
	owned := 0
	for _, id := range g.HAVIPs {
		v := st.HAVIPs[id]
		if unique[v.Name] {
			id = v.Name
		}
		out.HAVIPs = append(out.HAVIPs, id)
		if v.Owner != nil {
			nodes[v.Owner.Node]++
			owned++
		}
	}
	slices.Sort(out.HAVIPs)
	if g.Kind == fsm.Together {
		out.Kept = len(nodes) <= 1
	} else {
		out.Kept = len(nodes) == owned
	}
	return out
}

func (s *Server) clearFailures(ctx context.Context, in *failuresClear) (fsm.Result, error) {
	return s.commit(ctx, in.Key.Key, func(st *fsm.State) (fsm.Body, error) {
		var b fsm.ResetFailures
		if in.HAVIP != "" {
			v, refusal := st.HAVIPNamed(in.HAVIP)
			if refusal != nil {
				return nil, refusal
			}
			b.HAVIP = v.ID
		}
		if in.Node != "" {
			n, err := findNode(st, in.Node)
			if err != nil {
				return nil, err
			}
			b.Node = n.ID
		}
		return b, nil
	})
}

// DrainSpec is how a node is to be drained.
type DrainSpec struct {
	DeadlineSeconds int64 `json:"deadline_seconds,omitempty" minimum:"1" doc:"Absent: none"`
}

// Drain is how far a drain has come.
type Drain struct {
	Node     string      `json:"node"`
	Draining bool        `json:"draining" doc:"The node gets nothing until it is activated"`
	Running  bool        `json:"running" doc:"It is still moving HAVIPs away"`
	Result   string      `json:"result" enum:"done,deadline,cancelled," doc:"Empty while it runs"`
	Started  time.Time   `json:"started"`
	Deadline *time.Time  `json:"deadline"`
	Ended    *time.Time  `json:"ended"`
	Total    int         `json:"total" doc:"HAVIPs that the node had when it began"`
	Left     []DrainLeft `json:"left" doc:"Those that it still has"`
}

// DrainLeft is a HAVIP that a node under drain still has.
type DrainLeft struct {
	HAVIP string `json:"havip"`
	// To is where it goes; nil when it cannot move.
	To     *string `json:"to" doc:"ENI where it goes; null: it cannot move"`
	Reason string  `json:"reason"`
}

type nodeChange struct {
	Key
	Name string `path:"name" doc:"Name or id"`
}

type nodeDrain struct {
	Key
	Name string `path:"name" doc:"Name or id"`
	Body DrainSpec
}

func (s *Server) drainRoutes() {
	read(s, "/v1/nodes/{name}/drain", "show-drain", "How far a drain has come", func(st *fsm.State, in *namePath) (Drain, error) {
		return showDrain(st, in.Name)
	})
	write(s, http.MethodPost, "/v1/nodes/{name}/drain", "drain-node", "Move away what a node owns, one HAVIP after another",
		func(ctx context.Context, in *nodeDrain) (fsm.Result, error) {
			return s.commit(ctx, in.Key.Key, func(st *fsm.State) (fsm.Body, error) {
				n, err := findNode(st, in.Name)
				return fsm.DrainNode{ID: n.ID, For: duration(in.Body.DeadlineSeconds, time.Second)}, err
			})
		}, func(st *fsm.State, in *nodeDrain, _ fsm.Result) (Drain, error) { return showDrain(st, in.Name) })
	write(s, http.MethodPost, "/v1/nodes/{name}/activate", "activate-node", "End standby and draining",
		func(ctx context.Context, in *nodeChange) (fsm.Result, error) {
			return s.commit(ctx, in.Key.Key, func(st *fsm.State) (fsm.Body, error) {
				n, err := findNode(st, in.Name)
				if off := false; err == nil && st.Level() < 2 {
					return fsm.UpdateNode{ID: n.ID, Standby: &off}, nil // an upgrade is under way; nothing can be draining
				}
				return fsm.ActivateNode{ID: n.ID}, err
			})
		}, func(st *fsm.State, in *nodeChange, _ fsm.Result) (Node, error) { return s.showNode(st, in.Name) })
}

func showDrain(st *fsm.State, name string) (Drain, error) {
	n, err := findNode(st, name)
	if err != nil {
		return Drain{}, err
	}
	d := n.Drain
	if d.Started == 0 {
		return Drain{}, fsm.Refuse(fsm.CodeNotFound, "node %s was never drained; `node drain %s` begins that", n.Name, n.Name)
	}
	return Drain{
		Node: n.Name, Draining: n.Draining, Running: n.Draining && d.Result == "", Result: d.Result, Started: wall(d.Started),
		Deadline: timeOrNull(d.Deadline), Ended: timeOrNull(d.Ended), Total: d.Total, Left: whereTo(st, n, time.Now().UnixNano()),
	}, nil
}

// duration is n units, the longest of all where that is too much for one: the state
// machine then refuses it in words.
func duration(n int64, unit time.Duration) time.Duration {
	if n > math.MaxInt64/int64(unit) {
		return math.MaxInt64
	}
	return time.Duration(n) * unit
}

// timeOrNull is nil for no time at all.
func timeOrNull(ns int64) *time.Time {
	if ns == 0 {
		return nil
	}
	t := wall(ns)
	return &t
}
