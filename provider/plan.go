package provider

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Op is what a step does, in the cloud or in the log.
type Op string

// Steps of a sync.
const (
	OpCreate      Op = "create"
	OpDelete      Op = "delete"
	OpRename      Op = "rename"
	OpAddRange    Op = "add-range"
	OpRemoveRange Op = "remove-range"
	OpBindEIP     Op = "bind-eip"
	OpUnbindEIP   Op = "unbind-eip"
	// OpBlocked is no step: it says what cannot be done, and why.
	OpBlocked Op = "blocked"
)

// Step is one change of a sync.
type Step struct {
	Op      Op         `json:"op" enum:"create,delete,rename,add-range,remove-range,bind-eip,unbind-eip,blocked"`
	HAVIP   string     `json:"havip" doc:"Its name, in the log or else in the cloud"`
	CloudID string     `json:"cloud_id,omitempty"`
	Address netip.Addr `json:"address"`
	Text    string     `json:"text" doc:"What it does, in words"`
	Members []Member   `json:"members,omitempty"`
	EIP     string     `json:"eip,omitempty"`
	Name    string     `json:"name,omitempty" doc:"The new one"`

	// Below: for who carries it out.
	ID   string `json:"-"` // of the log, "" if it has none
	Spec Spec   `json:"-"`
	// Nodes and ENIs are Members in the log's names.
	Nodes []string `json:"-"`
}

// MaxSteps bounds what one sync does; the next one does the rest.
const MaxSteps = 200

// PlanToCloud says how the cloud becomes as the log is. Without prune nothing is taken away there: no member, no EIP,
// no HAVIP. The order is that in which it is to be done.
func PlanToCloud(c Cluster, seen []Observed, prune bool) []Step {
	byAddress := index(seen)
	var out []Step
	for _, w := range c.Wants {
		o, there := byAddress[w.Address]
		delete(byAddress, w.Address)
		vpc, subnet, known := w.place()
		if there && known && o.Subnet != "" && o.Subnet != subnet {
			if !prune {
				out = append(out, w.blocked(o.ID, "it is in %s, its ENIs are in %s; --prune deletes it there and makes it anew", o.Subnet, subnet))
				continue
			}
			if o.EIP.IsValid() {
				out = append(out, w.blocked(o.ID, "it is in %s, its ENIs are in %s, and EIP %s holds it; unbind that first", o.Subnet, subnet, o.EIP))
				continue
			}
			out = append(out, w.step(OpDelete, o.ID, "delete %s, which is in %s", o.ID, o.Subnet))
			there = false
		}
		if !there {
			out = append(out, w.create(vpc, subnet, known)...)
			continue
		}
		out = append(out, w.adjust(o, prune)...)
	}
	for _, o := range sortedByAddress(byAddress) {
		if !prune {
			continue
		}
		s := Step{Op: OpDelete, HAVIP: o.Name, CloudID: o.ID, Address: o.Address, Text: fmt.Sprintf("delete %s, which the cluster does not have", o.ID)}
		if o.EIP.IsValid() {
			s.Op, s.Text = OpBlocked, fmt.Sprintf("%s is not in the cluster, and EIP %s holds it; unbind that first", o.ID, o.EIP)
		}
		out = append(out, s)
	}
	return bounded(out)
}

func bounded(steps []Step) []Step {
	if len(steps) > MaxSteps {
		steps = steps[:MaxSteps]
	}
	return steps
}

func (w Want) step(op Op, cloud, format string, args ...any) Step {
	return Step{Op: op, HAVIP: w.Name, ID: w.ID, CloudID: cloud, Address: w.Address, Text: fmt.Sprintf(format, args...)}
}

func (w Want) blocked(cloud, format string, args ...any) Step {
	return w.step(OpBlocked, cloud, format, args...)
}

// create makes a HAVIP in the cloud, and binds its EIP.
func (w Want) create(vpc, subnet string, known bool) []Step {
	if !known {
		return []Step{w.blocked("", "the cloud's subnet of its ENIs is not known, or is not one; `havip-cluster provider show` says which ENIs the cloud knows")}
	}
	if !w.Address.Is4() {
		return []Step{w.blocked("", "the cloud's HAVIPs are IPv4 only")}
	}
	in, _ := w.members()
	s := w.step(OpCreate, "", "create it in %s with the range %s", subnet, cmp.Or(join(in), "of nobody"))
	s.Spec, s.Members = Spec{Name: w.Name, Address: w.Address, VPC: vpc, Subnet: subnet, Range: in, Enforced: w.Limited}, in
	out := []Step{s}
	if w.EIP.IsValid() {
		out = append(out, w.bind(""))
	}
	return out
}

func (w Want) bind(cloud string) Step {
	s := w.step(OpBindEIP, cloud, "bind EIP %s", w.EIP)
	s.EIP = w.EIP.String()
	return s
}

// adjust changes a HAVIP that the cloud has.
func (w Want) adjust(o Observed, prune bool) (out []Step) {
	if o.Name != w.Name {
		s := w.step(OpRename, o.ID, "rename %q to %q", o.Name, w.Name)
		s.Name = w.Name
		out = append(out, s)
	}
	if o.RangeKnown {
		out = append(out, w.adjustRange(o, prune)...)
	}
	switch {
	case w.EIP == o.EIP:
	case o.EIP.IsValid() && !prune:
		out = append(out, w.blocked(o.ID, "it has EIP %s there and %s here; --prune unbinds that, `provider sync --from-cloud` takes it over", o.EIP, eipText(w.EIP)))
	default:
		if o.EIP.IsValid() {
			s := w.step(OpUnbindEIP, o.ID, "unbind EIP %s: public traffic to it stops", o.EIP)
			s.EIP = o.EIP.String()
			out = append(out, s)
		}
		if w.EIP.IsValid() {
			out = append(out, w.bind(o.ID))
		}
	}
	return out
}

func (w Want) adjustRange(o Observed, prune bool) (out []Step) {
	want, _ := w.members()
	add := without(want, o.Range)
	if o.Enforced != nil && !*o.Enforced && !w.Limited {
		add = nil // who is not limited here or there needs no range
	}
	var remove []Member
	if prune && w.Limited {
		remove = w.beyond(o)
	}
	switch {
	case len(add) == 0:
	case len(o.Range) > 0 && o.Range[0].Type != add[0].Type:
		// One type in a range at a time, so what is there has to go first; that is for a person to time.
		return append(out, w.blocked(o.ID, "its range there is of type %s, here of type %s; a range has one type: empty it in the cloud's console while no failover is due, then sync again", o.Range[0].Type, add[0].Type))
	default:
		s := w.step(OpAddRange, o.ID, "add %s to its range", join(add))
		s.Members = add
		out = append(out, s)
	}
	if len(remove) > 0 {
		s := w.step(OpRemoveRange, o.ID, "take %s out of its range", join(remove))
		s.Members = remove
		out = append(out, s)
	}
	return out
}

// without are the members of a that are not in b.
func without(a, b []Member) []Member {
	var out []Member
	for _, m := range a {
		if !slices.Contains(b, m) {
			out = append(out, m)
		}
	}
	return out
}

func sortedByAddress(m map[netip.Addr]Observed) []Observed {
	out := make([]Observed, 0, len(m))
	for _, o := range m {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b Observed) int { return a.Address.Compare(b.Address) })
	return out
}

// PlanFromCloud says how the log becomes as the cloud is: HAVIPs that it does not have, ranges and EIPs. Nothing is
// deleted, and a member that is no node of the cluster is left out with a word.
func PlanFromCloud(c Cluster, seen []Observed) []Step {
	wants := map[netip.Addr]Want{}
	for _, w := range c.Wants {
		wants[w.Address] = w
	}
	var out []Step
	for _, o := range sortedByAddress(index(seen)) {
		w, there := wants[o.Address]
		if !there {
			w = Want{Name: cmp.Or(o.Name, o.ID), Address: o.Address}
		}
		s := w.step(OpCreate, o.ID, "create it, with the range that the cloud has")
		s.Members, s.Spec.Enforced = o.Range, o.Enforced == nil || *o.Enforced
		var strangers []string
		s.Nodes, strangers = c.names(o.Range)
		switch {
		case len(strangers) > 0:
			out = append(out, w.blocked(o.ID, "its range has %s, which the cluster does not have", strings.Join(strangers, ", ")))
		case !there:
			out = append(out, s)
		case o.RangeKnown && (len(w.beyond(o)) > 0 || w.Limited && len(w.refused(o)) > 0):
			s.Op, s.Text = OpAddRange, "set its range to "+cmp.Or(join(o.Range), "nobody")
			out = append(out, s)
		}
		if there && w.EIP != o.EIP && w.EIP.IsValid() {
			out = append(out, w.step(OpUnbindEIP, o.ID, "forget EIP %s, which it does not have in the cloud", w.EIP))
		}
		if w.EIP != o.EIP && o.EIP.IsValid() && (there || len(strangers) == 0) {
			s := w.step(OpBindEIP, o.ID, "note EIP %s", o.EIP)
			s.EIP = o.EIP.String()
			out = append(out, s)
		}
	}
	return bounded(out)
}

func (w Want) refused(o Observed) (out []Candidate) {
	for _, c := range w.Candidates {
		if !o.permits(c) {
			out = append(out, c)
		}
	}
	return out
}

// names are members in the log's words: nodes for instances, ids for ENIs. strangers are those it does not have.
func (c Cluster) names(list []Member) (known, strangers []string) {
	for _, m := range list {
		i := slices.IndexFunc(c.ENIs, func(e Candidate) bool {
			return m.Type == MemberCVM && e.Cloud.Instance == m.ID || m.Type == MemberENI && e.Cloud.ID == m.ID
		})
		switch {
		case i < 0:
			strangers = append(strangers, m.Type+" "+m.ID)
		case m.Type == MemberCVM:
			known = append(known, c.ENIs[i].Node)
		default:
			known = append(known, c.ENIs[i].ENI)
		}
	}
	return known, strangers
}

// Outcome is what became of a step.
type Outcome struct {
	Step
	Result string `json:"result" enum:"planned,done,failed,blocked,left" doc:"planned: a dry run; left: not begun, because an earlier one failed or the time was over"`
	Error  string `json:"error,omitempty"`
}

// Carry does the steps of PlanToCloud, one after the other, until ctx ends. A step that fails does not stop those of other
// HAVIPs. token gives each change its own.
func Carry(ctx context.Context, p Provider, steps []Step, token func(Step) string) []Outcome {
	made := map[netip.Addr]string{} // ids of what was made here
	failed := map[netip.Addr]bool{}
	out := make([]Outcome, 0, len(steps))
	for _, s := range steps {
		o := Outcome{Step: s}
		if o.CloudID == "" {
			o.CloudID = made[s.Address]
		}
		switch {
		case s.Op == OpBlocked:
			o.Result = "blocked"
		case failed[s.Address] || ctx.Err() != nil:
			o.Result = "left"
		default:
			id, err := one(ctx, p, o.Step, token(s))
			o.Result, o.CloudID = "done", cmp.Or(id, o.CloudID)
			if id != "" {
				made[s.Address] = id
			}
			if err != nil {
				failed[s.Address] = true
				o.Result, o.Error = "failed", err.Error()
			}
		}
		out = append(out, o)
	}
	return out
}

// one does one step in the cloud; id is that of a HAVIP that it made.
func one(ctx context.Context, p Provider, s Step, token string) (id string, err error) {
	provisioner, can := p.(Provisioner)
	binder, binds := p.(EIPBinder)
	if (s.Op == OpBindEIP || s.Op == OpUnbindEIP) && !binds || s.Op != OpBindEIP && s.Op != OpUnbindEIP && !can {
		return "", fmt.Errorf("provider %s cannot %s", p.Kind(), s.Op)
	}
	switch s.Op {
	case OpCreate:
		o, err := provisioner.Create(ctx, s.Spec, token)
		return o.ID, err
	case OpDelete:
		return "", provisioner.Delete(ctx, s.CloudID, token)
	case OpRename:
		return "", provisioner.Rename(ctx, s.CloudID, s.Name, token)
	case OpAddRange:
		return "", provisioner.AddRange(ctx, s.CloudID, s.Members, token)
	case OpRemoveRange:
		return "", provisioner.RemoveRange(ctx, s.CloudID, s.Members, token)
	case OpBindEIP, OpUnbindEIP:
		eip, err := netip.ParseAddr(s.EIP)
		if err != nil {
			return "", err
		}
		change := binder.BindEIP
		if s.Op == OpUnbindEIP {
			change = binder.UnbindEIP
		}
		return "", change(ctx, s.CloudID, eip, token)
	}
	return "", fmt.Errorf("there is no step %q", s.Op)
}
