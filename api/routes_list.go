package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
)

// havipsQuery says which HAVIPs somebody wants to see; what is absent asks for all.
type havipsQuery struct {
	Consistency
	Search string `query:"search" maxLength:"256" doc:"Only those with this text in name, id, address, EIP or description; upper and lower case are the same"`
	State  string `query:"state" enum:"AVAILABLE,PENDING,UNBIND,DISABLED" doc:"Only those in this state; DISABLED are those that are to have no owner"`
	Node   string `query:"node" doc:"Only those that this node (name or id) owns"`
	Subnet string `query:"subnet" doc:"Only those of this subnet"`
	Limit  int    `query:"limit" minimum:"0" maximum:"1000" doc:"At most so many; 0: all"`
	Offset int    `query:"offset" minimum:"0" doc:"So many are left out first"`
}

// havipsReply is a page of the list, and how many there are of which it is one.
type havipsReply struct {
	Index    uint64 `header:"X-Havip-Index"`
	Revision uint64 `header:"X-Havip-Revision"`
	Total    int    `header:"X-Havip-Total" doc:"How many the query asks for, on all pages"`
	Body     []HAVIP
}

// listRoute lists HAVIPs, all or a page of those that were asked for: what is left out costs a look, and no view.
func (s *Server) listRoute() {
	op := huma.Operation{Method: http.MethodGet, Path: "/v1/havips", OperationID: "list-havips", Summary: "All HAVIPs, or a page of some", Errors: readErrors}
	huma.Register(s.huma, op, func(ctx context.Context, in *havipsQuery) (*havipsReply, error) {
		st, err := s.known(ctx, in.Consistency)
		if err != nil {
			return nil, err
		}
		all := in.of(st)
		out := &havipsReply{Index: st.Index, Revision: st.Cluster.Revision, Total: len(all), Body: []HAVIP{}}
		page := all[min(in.Offset, len(all)):]
		if in.Limit > 0 {
			page = page[:min(in.Limit, len(page))]
		}
		look := newViewer(st, time.Now().UnixNano())
		for _, v := range page {
			out.Body = append(out.Body, look.havip(v))
		}
		return out, nil
	})
}

// of are the HAVIPs of a state that were asked for, in the order of the list.
func (in *havipsQuery) of(st *fsm.State) []fsm.HAVIP {
	search, node := strings.ToLower(in.Search), ""
	if in.Node != "" {
		node = in.Node
		if n, known := st.NodeNamed(in.Node); known {
			node = n.ID
		}
	}
	return slices.DeleteFunc(st.HAVIPList(), func(v fsm.HAVIP) bool {
		switch {
		case in.Subnet != "" && v.Subnet != in.Subnet,
			node != "" && (v.Owner == nil || v.Owner.Node != node),
			in.State == stateDisabled && !v.Disabled,
			in.State != "" && in.State != stateDisabled && (string(st.Serving(v)) != in.State || v.Disabled):
			return true
		case search == "":
			return false
		}
		for _, text := range []string{v.Name, v.ID, v.IP.String(), v.Description} {
			if strings.Contains(strings.ToLower(text), search) {
				return false
			}
		}
		return !v.EIP.IsValid() || !strings.Contains(v.EIP.String(), search)
	})
}

// stateDisabled asks for the HAVIPs that are to have no owner; it is no state of a placement.
const stateDisabled = "DISABLED"
