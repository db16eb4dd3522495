package api

import (
	"context"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// HAVIPSpec is a new HAVIP.
type HAVIPSpec struct {
	Name     string         `json:"name"`
	IP       string         `json:"ip,omitempty" doc:"Absent: one is chosen"`
	Subnet   string         `json:"subnet,omitempty" doc:"Absent: the one that holds the address"`
	VPC      string         `json:"vpc,omitempty"`
	Range    *RangeSpec     `json:"range,omitempty" doc:"Absent: any ENI of the subnet"`
	Prefer   map[string]int `json:"prefer,omitempty" doc:"Node or ENI: score"`
	Failback string         `json:"failback,omitempty" doc:"never, immediate, or a delay such as 5m"`
	Priority int            `json:"priority,omitempty"`
}

// RangeSpec is a range as it is asked for.
type RangeSpec struct {
	Type    string   `json:"type,omitempty" enum:"cvm,eni,"`
	Members []string `json:"members,omitempty"`
	Limit   *bool    `json:"limit,omitempty" doc:"Absent: true"`
}

// HAVIPChange is a change of a HAVIP; what is absent stays.
type HAVIPChange struct {
	Name     *string         `json:"name,omitempty"`
	Range    *RangeSpec      `json:"range,omitempty"`
	Prefer   *map[string]int `json:"prefer,omitempty" doc:"Replaces all preferences"`
	Bans     *[]string       `json:"bans,omitempty" doc:"Replaces all bans"`
	Failback *string         `json:"failback,omitempty"`
	Priority *int            `json:"priority,omitempty"`
	Enabled  *bool           `json:"enabled,omitempty"`
}

// Members is a change of a list: names that come in, and names that go.
type Members struct {
	Add    []string `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
	Type   string   `json:"type,omitempty" enum:"cvm,eni," doc:"Of a range without members"`
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
	ID    string `path:"id" doc:"Id or name"`
	Force bool   `query:"force" doc:"Delete it although it is owned; the owner releases it first"`
}

type placementQuery struct {
	Consistency
	HAVIP []string `query:"havip,explode" doc:"Ids or names; none means all"`
}

// MoveTarget says where a HAVIP should go.
type MoveTarget struct {
	To string `json:"to" minLength:"1" doc:"Name of a node or id of an ENI"`
}

// Explanation says for every ENI why it may own a HAVIP or not, and who should.
type Explanation struct {
	placement.Decision
	Index uint64 `json:"index"`
}

func (s *Server) havipRoutes() {
	read(s, "/v1/havips", "list-havips", "All HAVIPs", func(st *fsm.State, _ *Consistency) ([]HAVIP, error) {
		out := []HAVIP{}
		for _, v := range st.HAVIPList() {
			out = append(out, havipView(st, v))
		}
		return out, nil
	})
	read(s, "/v1/havips/{id}", "show-havip", "One HAVIP", func(st *fsm.State, in *havipPath) (HAVIP, error) {
		v, refusal := st.HAVIPNamed(in.ID)
		if refusal != nil {
			return HAVIP{}, refusal
		}
		return havipView(st, v), nil
	})
	read(s, "/v1/havips/{id}/explain", "explain-havip", "Why a HAVIP is where it is", explain)
	read(s, "/v1/placement", "show-placement", "Who owns what", placements)

	write(s, http.MethodPost, "/v1/havips", "create-havip", "Create a HAVIP", s.createHAVIP, showHAVIP)
	write(s, http.MethodPatch, "/v1/havips/{id}", "update-havip", "Change a HAVIP", s.updateHAVIP, showHAVIP)
	write(s, http.MethodDelete, "/v1/havips/{id}", "delete-havip", "Delete a HAVIP", s.deleteHAVIP, done)
	write(s, http.MethodPost, "/v1/havips/{id}/move", "move-havip", "Move a HAVIP", s.moveHAVIP, showHAVIP)
	for _, word := range []string{"enable", "disable"} {
		enabled := word == "enable"
		write(s, http.MethodPost, "/v1/havips/{id}/"+word, word+"-havip", "Let a HAVIP be owned, or by nobody",
			func(ctx context.Context, in *havipChange) (fsm.Result, error) {
				return s.commit(ctx, in.Key.Key, onHAVIP(in.ID, func(_ *fsm.State, v fsm.HAVIP) (fsm.UpdateHAVIP, error) {
					return fsm.UpdateHAVIP{ID: v.ID, Enabled: &enabled}, nil
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
	return havipView(st, v), nil
}

// onHAVIP finds a HAVIP by id or name and makes its change. A change that is already so
// returns errNothing.
func onHAVIP(name string, change func(st *fsm.State, v fsm.HAVIP) (fsm.UpdateHAVIP, error)) prepare {
	return func(st *fsm.State) (fsm.Body, error) {
		v, refusal := st.HAVIPNamed(name)
		if refusal != nil {
			return nil, refusal
		}
		return wrap(change(st, v))
	}
}

func wrap(b fsm.UpdateHAVIP, err error) (fsm.Body, error) { return b, err }

func explain(st *fsm.State, in *havipPath) (Explanation, error) {
	v, refusal := st.HAVIPNamed(in.ID)
	if refusal != nil {
		return Explanation{}, refusal
	}
	for _, d := range placement.Compute(st, time.Now().UnixNano()) {
		if d.HAVIP == v.ID {
			d.Candidates = list(d.Candidates)
			return Explanation{Decision: d, Index: st.Index}, nil
		}
	}
	return Explanation{}, fsm.Refuse(fsm.CodeNotFound, "no placement for HAVIP %s", v.Name)
}

func placements(st *fsm.State, in *placementQuery) ([]Placement, error) {
	out := []Placement{}
	if len(in.HAVIP) == 0 {
		for _, v := range st.HAVIPList() {
			out = append(out, placementView(st, v))
		}
	}
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
		Name: b.Name, Subnet: b.Subnet, VPC: b.VPC, Range: b.Range.fsm(), Prefer: b.Prefer, Failback: b.Failback, Priority: b.Priority,
	}
	if b.IP != "" {
		ip, err := netip.ParseAddr(b.IP)
		if err != nil || ip.Zone() != "" || ip.Is4In6() {
			return fsm.Result{}, fsm.Refuse(fsm.CodeMalformed, "ip %q is not an address such as 10.0.0.100", b.IP)
		}
		cmd.IP = ip
	}
	return s.Backend.Propose(ctx, cmd, in.Key.Key)
}

func (s *Server) updateHAVIP(ctx context.Context, in *havipBody[HAVIPChange]) (fsm.Result, error) {
	b := in.Body
	return s.commitList(ctx, in.Key.Key, onHAVIP(in.ID, func(_ *fsm.State, v fsm.HAVIP) (fsm.UpdateHAVIP, error) {
		cmd := fsm.UpdateHAVIP{
			ID: v.ID, Name: b.Name, Prefer: b.Prefer, Bans: b.Bans, Failback: b.Failback, Priority: b.Priority, Enabled: b.Enabled,
		}
		if b.Range != nil {
			r := b.Range.fsm()
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
			return fsm.DeleteHAVIP{ID: v.ID, Force: in.Force}, nil
		}
		if in.Key.Key != "" && refusal.Code == fsm.CodeNotFound {
			return fsm.DeleteHAVIP{ID: in.ID, Force: in.Force}, nil // a repeat; the log knows its first answer
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
	res, err := s.Backend.MoveHAVIP(ctx, v.ID, in.Body.To, in.Key.Key)
	res.Object = v.ID
	return res, err
}

func (s *Server) changeRange(ctx context.Context, in *havipBody[Members]) (fsm.Result, error) {
	b, id := in.Body, ""
	res, err := s.commitList(ctx, in.Key.Key, onHAVIP(in.ID, func(_ *fsm.State, v fsm.HAVIP) (fsm.UpdateHAVIP, error) {
		id = v.ID
		r := fsm.Range{Type: v.Range.Type, Members: changed(v.Range.Members, b), Limit: v.Range.Limit}
		switch want := fsm.RangeType(b.Type); {
		case want == "" || want == r.Type:
		case len(v.Range.Members) > 0:
			return fsm.UpdateHAVIP{}, fsm.Refuse(fsm.CodeParameter, "the range of HAVIP %s holds members of type %s, not %s; replace it whole with `havip update --range`", v.Name, r.Type, want)
		default:
			r.Type = want
		}
		if len(v.Range.Members) == 0 && len(b.Add) > 0 {
			r.Limit = true // the first members make a limit, as they do in a new HAVIP
		}
		if slices.Equal(r.Members, v.Range.Members) && r.Limit == v.Range.Limit {
			return fsm.UpdateHAVIP{}, errNothing
		}
		return fsm.UpdateHAVIP{ID: v.ID, Range: &r}, nil
	}))
	res.Object = id
	return res, err
}

func (s *Server) changeBans(ctx context.Context, in *havipBody[Members]) (fsm.Result, error) {
	b, id := in.Body, ""
	res, err := s.commitList(ctx, in.Key.Key, onHAVIP(in.ID, func(st *fsm.State, v fsm.HAVIP) (fsm.UpdateHAVIP, error) {
		id = v.ID
		for _, who := range append(list(b.Add), b.Remove...) {
			n, isNode := st.NodeNamed(who)
			_, isENI := st.ENIs[who]
			if !(isNode && n.Name == who) && !isENI && !slices.Contains(v.Bans, who) {
				return fsm.UpdateHAVIP{}, fsm.Refuse(fsm.CodeNotFound, "%q is neither a node nor an ENI; `node list` and `eni list` show those there are", who)
			}
		}
		bans := changed(v.Bans, b)
		if slices.Equal(bans, v.Bans) {
			return fsm.UpdateHAVIP{}, errNothing
		}
		return fsm.UpdateHAVIP{ID: v.ID, Bans: &bans}, nil
	}))
	res.Object = id
	return res, err
}

// changed is a sorted list with some names added and some removed.
func changed(have []string, m Members) []string {
	set := map[string]bool{}
	for _, x := range append(list(have), m.Add...) {
		set[x] = true
	}
	for _, x := range m.Remove {
		delete(set, x)
	}
	return append([]string{}, slices.Sorted(maps.Keys(set))...)
}
