package api

import (
	"context"
	"net/http"
	"net/netip"

	"havip-cluster/fsm"
)

// SubnetSpec is a new subnet.
type SubnetSpec struct {
	Name     string   `json:"name"`
	CIDR     string   `json:"cidr" example:"10.0.0.0/24"`
	VPC      string   `json:"vpc,omitempty"`
	Gateway  string   `json:"gateway,omitempty"`
	Reserved []string `json:"reserved,omitempty"`
}

// ENIChange is the operator's word about an ENI; what is absent stays.
type ENIChange struct {
	Subnet  *string `json:"subnet,omitempty" doc:"Empty: as its addresses say"`
	Primary *bool   `json:"primary,omitempty"`
}

type namePath struct {
	Consistency
	Name string `path:"name"`
}

type eniPath struct {
	Consistency
	ID string `path:"id" doc:"NODE/DEVICE, the slash written as %2F"`
}

type subnetCreate struct {
	Key
	Body SubnetSpec
}

type nameChange struct {
	Key
	Name string `path:"name"`
}

type eniChange struct {
	Key
	ID   string `path:"id" doc:"NODE/DEVICE, the slash written as %2F"`
	Body ENIChange
}

func (s *Server) networkRoutes() {
	read(s, "/v1/subnets", "list-subnets", "All subnets", func(st *fsm.State, _ *Consistency) ([]Subnet, error) {
		out := []Subnet{}
		for _, n := range st.SubnetList() {
			out = append(out, subnetView(st, n))
		}
		return out, nil
	})
	read(s, "/v1/subnets/{name}", "show-subnet", "One subnet", func(st *fsm.State, in *namePath) (Subnet, error) {
		return showSubnet(st, in.Name)
	})
	read(s, "/v1/enis", "list-enis", "All ENIs", func(st *fsm.State, _ *Consistency) ([]ENI, error) {
		out := []ENI{}
		for _, e := range st.ENIList() {
			out = append(out, eniView(st, e))
		}
		return out, nil
	})
	read(s, "/v1/enis/{id}", "show-eni", "One ENI", func(st *fsm.State, in *eniPath) (ENI, error) {
		return showENI(st, in.ID)
	})
	create(s, "/v1/subnets", "create-subnet", "Create a subnet", s.createSubnet,
		func(st *fsm.State, _ *subnetCreate, res fsm.Result) (Subnet, error) {
			return showSubnet(st, res.Object)
		})
	write(s, http.MethodDelete, "/v1/subnets/{name}", "delete-subnet", "Delete a subnet without HAVIPs",
		func(ctx context.Context, in *nameChange) (fsm.Result, error) {
			return s.commit(ctx, in.Key.Key, one(fsm.DeleteSubnet{Name: in.Name}))
		}, done)
	write(s, http.MethodPatch, "/v1/enis/{id}", "set-eni", "Say what the inventory cannot know of an ENI",
		func(ctx context.Context, in *eniChange) (fsm.Result, error) {
			return s.commit(ctx, in.Key.Key, one(fsm.SetENI{ID: s.named([]string{in.ID})[0], Subnet: in.Body.Subnet, Primary: in.Body.Primary}))
		},
		func(st *fsm.State, _ *eniChange, res fsm.Result) (ENI, error) { return showENI(st, res.Object) })
}

func showSubnet(st *fsm.State, name string) (Subnet, error) {
	n, ok := st.Subnets[name]
	if !ok {
		return Subnet{}, fsm.Refuse(fsm.CodeNotFound, "no subnet is called %q; `subnet list` shows those there are", name)
	}
	return subnetView(st, n), nil
}

func showENI(st *fsm.State, id string) (ENI, error) {
	e, ok := st.ENIs[cloudNamed(st, id)]
	if !ok {
		return ENI{}, fsm.Refuse(fsm.CodeNotFound, "no ENI has the id %q; `eni list` shows those there are", id)
	}
	return eniView(st, e), nil
}

func (s *Server) createSubnet(ctx context.Context, in *subnetCreate) (fsm.Result, error) {
	b := in.Body
	sub := fsm.Subnet{Name: b.Name, VPC: b.VPC}
	var err error
	if sub.CIDR, err = netip.ParsePrefix(b.CIDR); err != nil {
		return fsm.Result{}, fsm.Refuse(fsm.CodeMalformed, "cidr %q is not a network such as 10.0.0.0/24", b.CIDR)
	}
	if b.Gateway != "" {
		if sub.Gateway, err = netip.ParseAddr(b.Gateway); err != nil {
			return fsm.Result{}, fsm.Refuse(fsm.CodeMalformed, "gateway %q is not an address such as 10.0.0.1", b.Gateway)
		}
	}
	for _, r := range b.Reserved {
		a, err := netip.ParseAddr(r)
		if err != nil {
			return fsm.Result{}, fsm.Refuse(fsm.CodeMalformed, "reserved %q is not an address such as 10.0.0.9", r)
		}
		sub.Reserved = append(sub.Reserved, a)
	}
	return s.commit(ctx, in.Key.Key, one(fsm.CreateSubnet{Subnet: sub}))
}
