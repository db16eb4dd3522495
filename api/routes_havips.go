package api

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"time"
	"weak"

	"havip-cluster/fsm"
	"havip-cluster/havip"
)

// Change is what is said of the settings of a HAVIP; what is absent is not said.
type Change = havip.Change

// HAVIPSpec is a new HAVIP.
type HAVIPSpec struct {
	Name   string     `json:"name"`
	IP     string     `json:"ip,omitempty" doc:"Absent: one is chosen"`
	Subnet string     `json:"subnet,omitempty" doc:"Absent: the one that holds the address"`
	VPC    string     `json:"vpc,omitempty"`
	Range  *RangeSpec `json:"range,omitempty" doc:"Absent: any ENI of the subnet"`
	Change
	EIP      string `json:"eip,omitempty"`
	ReuseNow bool   `json:"reuse_now,omitempty" doc:"Take an address that is in quarantine"`
	Force    bool   `json:"force,omitempty" doc:"Take the address although a station outside the cluster has it"`
}

// RangeSpec is a range as it is asked for.
type RangeSpec struct {
	Type    string   `json:"type,omitempty" enum:"cvm,eni,"`
	Members []string `json:"members,omitempty"`
	Limit   *bool    `json:"limit,omitempty" doc:"Absent: true"`
}

// HAVIPChange is a change of a HAVIP; what is absent stays.
type HAVIPChange struct {
	Name  *string    `json:"name,omitempty"`
	Range *RangeSpec `json:"range,omitempty"`
	Bans  *[]string  `json:"bans,omitempty" doc:"Replaces all bans"`
	Change
	Evict bool `json:"evict,omitempty" doc:"An owner that leaves the range releases first; without it the change is refused"`
	Force bool `json:"force,omitempty" doc:"Take the address although a station outside the cluster has it"`
}

// RangeChange is names that come into a range, and names that go.
type RangeChange struct {
	Add    []string `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
	Type   string   `json:"type,omitempty" enum:"cvm,eni," doc:"Of a range without members"`
	Evict  bool     `json:"evict,omitempty" doc:"An owner that leaves the range releases first; without it the change is refused"`
}

// BanChange is bans that begin, and bans that end.
type BanChange struct {
	Add        []string `json:"add,omitempty" doc:"Nodes or ENIs"`
	Remove     []string `json:"remove,omitempty" doc:"Nodes or ENIs"`
	ForSeconds int64    `json:"for_seconds,omitempty" minimum:"1" doc:"The added ban ends by itself after this; absent: it does not"`
}

func (r *RangeSpec) fsm() fsm.Range {
	if r == nil {
		return fsm.Range{}
	}
	return fsm.Range{Type: fsm.RangeType(r.Type), Members: list(r.Members), Limit: r.Limit == nil || *r.Limit}
}

// havipPath are the parameters of a read of one HAVIP.
type havipPath struct {
	Consistency
	ID string `path:"id" doc:"Id or name"`
}

// havipChange are those of a change without a body, havipBody with one.
type havipChange struct {
	Key
	ID string `path:"id" doc:"Id or name"`
}

type havipBody[T any] struct {
	Key
	ID   string `path:"id" doc:"Id or name"`
	Body T
}

type havipCreate struct {
	Key
	Body HAVIPSpec
}

type havipDelete struct {
	Key
	ID      string `path:"id" doc:"Id or name"`
	Release bool   `query:"release" doc:"Delete it although it is owned; the owner releases it first"`
	Force   bool   `query:"force" doc:"The same as release"`
}

type placementQuery struct {
	Consistency
	HAVIP []string `query:"havip,explode" doc:"Ids or names; none means all"`
}

// MoveTarget says where a HAVIP should go.
type MoveTarget struct {
	To string `json:"to" minLength:"1" doc:"Name of a node or id of an ENI"`
}

func (s *Server) havipRoutes() {
	s.listRoute()
	read(s, "/v1/havips/{id}", "show-havip", "One HAVIP", func(st *fsm.State, in *havipPath) (HAVIP, error) {
		v, refusal := st.HAVIPNamed(in.ID)
		if refusal != nil {
			return HAVIP{}, refusal
		}
		return newViewer(st, time.Now().UnixNano()).havip(v), nil
	})
	read(s, "/v1/havips/{id}/explain", "explain-havip", "Why a HAVIP is where it is", explain)
	read(s, "/v1/placement", "show-placement", "Who owns what", s.placements)

	create(s, "/v1/havips", "create-havip", "Create a HAVIP", s.createHAVIP, showHAVIP)
	write(s, http.MethodPatch, "/v1/havips/{id}", "update-havip", "Change a HAVIP", s.updateHAVIP, showHAVIP)
	write(s, http.MethodDelete, "/v1/havips/{id}", "delete-havip", "Delete a HAVIP", s.deleteHAVIP, done)
	write(s, http.MethodPost, "/v1/havips/{id}/move", "move-havip", "Move a HAVIP", s.moveHAVIP, showHAVIP)
	for _, word := range []string{"enable", "disable"} {
		enabled := word == "enable"
		write(s, http.MethodPost, "/v1/havips/{id}/"+word, word+"-havip", "Let a HAVIP be owned, or by nobody",
			func(ctx context.Context, in *havipChange) (fsm.Result, error) {
				return s.commit(ctx, in.Key.Key, onHAVIP(ctx, in.Key.Key, in.ID, func(v fsm.HAVIP) (fsm.Body, error) {
					return fsm.UpdateHAVIP{ID: v.ID, Change: Change{Enabled: &enabled}}, nil
				}))
			}, showHAVIP)
	}
	write(s, http.MethodPost, "/v1/havips/{id}/range", "change-range", "Add and remove members of a range", s.changeRange, showHAVIP)
	write(s, http.MethodPost, "/v1/havips/{id}/bans", "change-bans", "Ban and unban nodes or ENIs", s.changeBans, showHAVIP)
}

// showHAVIP shows the HAVIP that was changed. A move or another change may have been
// followed by a deletion; then there is only its id to show.
func showHAVIP[I any](st *fsm.State, _ *I, res fsm.Result) (HAVIP, error) {
	v, ok := st.HAVIPs[res.Object]
	if !ok {
		return HAVIP{}, fsm.Refuse(fsm.CodeNotFound, "HAVIP %s was changed at index %d and has been deleted since", res.Object, res.Index)
	}
	return newViewer(st, time.Now().UnixNano()).havip(v), nil
}

// onHAVIP finds a HAVIP by id or name and makes its change. A change that is already so
// returns errNothing.
//
// A repeat, by the request's key, may name what the first attempt has renamed: then it is what that was about.
func onHAVIP(ctx context.Context, key, name string, change func(v fsm.HAVIP) (fsm.Body, error)) prepare {
	return func(st *fsm.State) (fsm.Body, error) {
		v, refusal := st.HAVIPNamed(name)
		if refusal != nil && refusal.Code == fsm.CodeNotFound {
			if first, other := st.HAVIPNamed(st.AnsweredObject(key, who(ctx))); other == nil {
				v, refusal = first, nil
			}
		}
		if refusal != nil {
			return nil, refusal
		}
		return change(v)
	}
}

// placedAt is what a state says of all HAVIPs. Nobody changes it. It does not keep the state, which is large, from being freed.
type placedAt struct {
	st   weak.Pointer[fsm.State]
	list []Placement
}

// allPlaced makes the list of all HAVIPs once for each state: with 10,000 that takes as long as to send it, and monitors
// ask again and again while nothing changes.
func (s *Server) allPlaced(st *fsm.State) []Placement {
	if last := s.placed.Load(); last != nil && last.st == weak.Make(st) {
		return last.list
	}
	havips := st.HAVIPList()
	list := make([]Placement, len(havips))
	for i, v := range havips {
		list[i] = placementView(st, v)
	}
	s.placed.Store(&placedAt{weak.Make(st), list})
	return list
}

func (s *Server) placements(st *fsm.State, in *placementQuery) ([]Placement, error) {
	if len(in.HAVIP) == 0 {
		return s.allPlaced(st), nil
	}
	out := []Placement{}
	for _, name := range in.HAVIP {
		v, refusal := st.HAVIPNamed(name)
		if refusal != nil {
			return nil, refusal
		}
		out = append(out, placementView(st, v))
	}
	return out, nil
}

func (s *Server) createHAVIP(ctx context.Context, in *havipCreate) (fsm.Result, error) {
	b := in.Body
	cmd := fsm.CreateHAVIP{
		Name: b.Name, Subnet: b.Subnet, VPC: b.VPC, Range: b.Range.fsm(), Spec: fsm.Spec{}.With(b.Change), ReuseNow: b.ReuseNow, Force: b.Force,
	}
	cmd.Range.Members = s.named(cmd.Range.Members)
	if b.IP != "" {
		ip, err := netip.ParseAddr(b.IP)
		if err != nil || ip.Zone() != "" || ip.Is4In6() {
			return fsm.Result{}, fsm.Refuse(fsm.CodeMalformed, "ip %q is not an address such as 10.0.0.100", b.IP)
		}
		cmd.IP = ip
	}
	eip, err := parseEIP(b.EIP)
	if err != nil {
		return fsm.Result{}, err
	}
	cmd.EIP = eip
	s.awaitSubnet(ctx, cmd)
	return s.commitIf(ctx, in.Key.Key, one(cmd), func() *fsm.Refusal { return s.inUse(ctx, cmd) })
}

// SubnetWait is how long a new HAVIP waits for its subnet while a node has not told of its networks, as in the first second after
// `bootstrap`. The command line waits as long before it asks; both together are less than DefaultTimeout, so that a refusal
// arrives where a node never tells.
const SubnetWait = 3 * time.Second

// awaitSubnet waits until the subnet of a new HAVIP is known, each node has told of its networks, or SubnetWait is over. Apply
// judges what there is then.
func (s *Server) awaitSubnet(ctx context.Context, cmd fsm.CreateHAVIP) {
	s.await(ctx, SubnetWait, func(st *fsm.State) bool { return subnetKnown(st, cmd) || len(st.Untold()) == 0 })
}

// await waits until the state is as a request needs it, or the limit is over.
func (s *Server) await(ctx context.Context, limit time.Duration, fit func(*fsm.State) bool) {
	watch, stop := s.Backend.Watch()
	defer stop()
	over := time.NewTimer(limit)
	defer over.Stop()
	for !fit(s.Backend.State()) {
		select {
		case <-watch:
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// subnetKnown reports whether a subnet is there that a new HAVIP names, or that holds its address.
func subnetKnown(st *fsm.State, cmd fsm.CreateHAVIP) bool {
	if cmd.Subnet != "" {
		_, ok := st.Subnets[cmd.Subnet]
		return ok
	}
	return !cmd.IP.IsValid() || slices.ContainsFunc(st.SubnetList(), func(sub fsm.Subnet) bool {
		return sub.CIDR.Contains(cmd.IP) && (cmd.VPC == "" || cmd.VPC == sub.VPC)
	})
}

// inUse refuses an address that somebody outside the cluster has. Where this node is not in the
// subnet, or the address is yet to be chosen, the first owner finds out.
func (s *Server) inUse(ctx context.Context, cmd fsm.CreateHAVIP) *fsm.Refusal {
	if !cmd.IP.IsValid() || cmd.Force {
		return nil
	}
	if taken := s.Backend.Taken(ctx, cmd.IP); taken != "" {
		return fsm.Refuse(fsm.CodeInUse, "%s; take it from there, or create the HAVIP all the same with --force", taken)
	}
	return nil
}

// parseEIP reads an elastic address; "" is none.
func parseEIP(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return a, fsm.Refuse(fsm.CodeMalformed, "eip %q is not an address such as 203.0.113.7", text)
	}
	return a, nil
}

func (s *Server) updateHAVIP(ctx context.Context, in *havipBody[HAVIPChange]) (fsm.Result, error) {
	b := in.Body
	return s.commitList(ctx, in.Key.Key, onHAVIP(ctx, in.Key.Key, in.ID, func(v fsm.HAVIP) (fsm.Body, error) {
		cmd := fsm.UpdateHAVIP{ID: v.ID, Name: b.Name, Bans: b.Bans, Change: b.Change, Evict: b.Evict, Force: b.Force}
		if b.Range != nil {
			r := b.Range.fsm()
			r.Members = s.named(r.Members)
			if b.Range.Limit == nil {
				r.Limit = v.Range.Limit || len(r.Members) > 0
			}
			cmd.Range = &r
		}
		return cmd, nil
	}))
}

func (s *Server) deleteHAVIP(ctx context.Context, in *havipDelete) (fsm.Result, error) {
	res, err := s.commit(ctx, in.Key.Key, func(st *fsm.State) (fsm.Body, error) {
		v, refusal := st.HAVIPNamed(in.ID)
		if refusal == nil {
			return fsm.DeleteHAVIP{ID: v.ID, Force: in.Force || in.Release}, nil
		}
		if in.Key.Key != "" && refusal.Code == fsm.CodeNotFound {
			// A repeat, by a name that the first attempt has ended: the log knows its answer by the id.
			id := cmp.Or(st.AnsweredObject(in.Key.Key, who(ctx)), in.ID)
			return fsm.DeleteHAVIP{ID: id, Force: in.Force || in.Release}, nil
		}
		return nil, refusal
	})
	return res, err
}

func (s *Server) moveHAVIP(ctx context.Context, in *havipBody[MoveTarget]) (fsm.Result, error) {
	v, refusal := s.Backend.State().HAVIPNamed(in.ID)
	if refusal != nil {
		st, err := s.newest(ctx)
		if err != nil {
			return fsm.Result{}, err
		}
		if v, refusal = st.HAVIPNamed(in.ID); refusal != nil {
			return fsm.Result{}, refusal
		}
	}
	res, err := s.Backend.MoveHAVIP(ctx, v.ID, s.named([]string{in.Body.To})[0], in.Key.Key)
	res.Object = v.ID
	return res, err
}

// changeRange adds and removes members. The first members make a limit, as they do in a
// new HAVIP.
func (s *Server) changeRange(ctx context.Context, in *havipBody[RangeChange]) (fsm.Result, error) {
	b := in.Body
	b.Add, b.Remove = s.named(b.Add), s.named(b.Remove)
	return s.commitList(ctx, in.Key.Key, onHAVIP(ctx, in.Key.Key, in.ID, func(v fsm.HAVIP) (fsm.Body, error) {
		if len(v.Range.Members) == 0 && !v.Range.Limit && len(b.Add) > 0 && len(b.Remove) == 0 {
			r := fsm.Range{Type: fsm.RangeType(b.Type), Members: b.Add, Limit: true}
			return fsm.UpdateHAVIP{ID: v.ID, Range: &r, Evict: b.Evict}, nil
		}
		return fsm.ChangeRange{ID: v.ID, Type: fsm.RangeType(b.Type), Add: b.Add, Remove: b.Remove, Evict: b.Evict}, nil
	}))
}

// changeBans begins or ends one ban by a command of its own; several at once replace the
// list, so that all are done or none.
func (s *Server) changeBans(ctx context.Context, in *havipBody[BanChange]) (fsm.Result, error) {
	b := in.Body
	b.Add, b.Remove = s.named(b.Add), s.named(b.Remove)
	if b.ForSeconds != 0 && (len(b.Add) != 1 || len(b.Remove) != 0) {
		return fsm.Result{}, fsm.Refuse(fsm.CodeParameter, "for_seconds is the time of one ban: name exactly one node or ENI to add, and none to remove")
	}
	id := ""
	res, err := s.commitList(ctx, in.Key.Key, onHAVIP(ctx, in.Key.Key, in.ID, func(v fsm.HAVIP) (fsm.Body, error) {
		id = v.ID
		have := func(who string) bool { return slices.Contains(v.Bans, who) }
		switch {
		case len(b.Add)+len(b.Remove) == 0:
			return nil, fsm.Refuse(fsm.CodeMissing, "say which node or ENI to ban (add) or to unban (remove)")
		case len(b.Add) == 1 && len(b.Remove) == 0:
			if _, ends := v.BanEnds[b.Add[0]]; have(b.Add[0]) && !ends && b.ForSeconds == 0 {
				return nil, errNothing
			}
			return fsm.BanHAVIP{ID: v.ID, Target: b.Add[0], For: duration(b.ForSeconds, time.Second)}, nil
		case len(b.Remove) == 1 && len(b.Add) == 0 && have(b.Remove[0]):
			return fsm.UnbanHAVIP{ID: v.ID, Target: b.Remove[0]}, nil
		}
		bans := changed(v.Bans, b)
		if slices.Equal(bans, v.Bans) {
			return nil, errNothing
		}
		return fsm.UpdateHAVIP{ID: v.ID, Bans: &bans}, nil
	}))
	res.Object = id
	return res, err
}

// changed is a sorted list with some names added and some removed.
func changed(have []string, m BanChange) []string {
	set := map[string]bool{}
	for _, x := range append(list(have), m.Add...) {
		set[x] = true
	}
	for _, x := range m.Remove {
		delete(set, x)
	}
	return append([]string{}, slices.Sorted(maps.Keys(set))...)
}
