package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Self is who asks, as the node that answers sees it.
type Self struct {
	Principal string `json:"principal" doc:"root@NODE, node:NAME or token:NAME"`
	Role      string `json:"role" enum:"viewer,operator,admin,"`
	Group     string `json:"group,omitempty" doc:"The token may touch the HAVIPs of this group alone"`
	OwnNode   string `json:"own_node,omitempty" doc:"Name of the node whose own root or certificate this is"`
	Node      string `json:"node" doc:"Name of the node that answers"`
	Version   string `json:"version" doc:"Of its program"`
}

// selfRoute tells a caller who he is, so that a program can show only what its user may do. It
// promises nothing: each change is judged where it is proposed.
func (s *Server) selfRoute() {
	op := huma.Operation{Method: http.MethodGet, Path: "/v1/self", OperationID: "show-self", Summary: "Who asks, and which node answers", Errors: readErrors}
	huma.Register(s.huma, op, func(ctx context.Context, _ *struct{}) (*reply[Self], error) {
		st := s.Backend.State()
		if refusal := still(ctx, st); refusal != nil {
			return nil, refusal
		}
		w, _ := CallerOf(ctx)
		out := Self{Principal: w.Principal, Role: string(w.Right), Group: w.Group, Node: st.NodeName(s.Backend.Self()), Version: s.Version}
		if w.Node != "" {
			out.OwnNode = st.NodeName(w.Node)
		}
		return answer(st, out), nil
	})
}
