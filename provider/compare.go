package provider

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Code names a kind of drift. Other programs match it.
type Code string

// Kinds of drift between the log and the cloud.
const (
	VIPMissing    Code = "vip-missing"    // the cloud has no HAVIP with this address
	VIPUnknown    Code = "vip-unknown"    // the cloud has one that the log has not
	SubnetDiffers Code = "subnet-differs" // the cloud's is in another subnet than the ENIs
	RangeNarrower Code = "range-narrower" // the cloud refuses an ENI that may own here
	RangeWider    Code = "range-wider"    // the cloud lets somebody own who may not here
	RangeOpen     Code = "range-open"     // the cloud enforces no range, the log does
	OwnerDiffers  Code = "owner-differs"  // the cloud sends the traffic elsewhere
	OwnerMissing  Code = "owner-missing"  // the cloud sends it nowhere
	EIPDiffers    Code = "eip-differs"
	NameDiffers   Code = "name-differs"
	ENIUnknown    Code = "eni-unknown" // the cloud has no interface with the MAC
	Quota         Code = "quota"       // what is missing does not fit into the VPC
)

// Codes are all kinds, in the order in which they are documented.
var Codes = []Code{
	VIPMissing, VIPUnknown, SubnetDiffers, RangeNarrower, RangeWider, RangeOpen, OwnerDiffers, OwnerMissing, EIPDiffers, NameDiffers, ENIUnknown, Quota,
}

// Warning is one difference, with what mends it. Nothing acts on it by itself.
type Warning struct {
	Code Code `json:"code" enum:"vip-missing,vip-unknown,subnet-differs,range-narrower,range-wider,range-open,owner-differs,owner-missing,eip-differs,name-differs,eni-unknown,quota"`
	// HAVIP is its name, ID its id in the log; "" where it is about an ENI, a VPC, or what the log does not have.
	HAVIP   string `json:"havip,omitempty"`
	ID      string `json:"id,omitempty"`
	Message string `json:"message"`
	Command string `json:"command,omitempty" doc:"What mends it; absent: there is no command for it"`
	// Subject tells two warnings of one code about one HAVIP apart; it stays as long as the difference does.
	Subject string `json:"subject,omitempty" doc:"The address, ENI or VPC that it is about"`
}

// Key is the same for the same difference, whatever the words say.
func (w Warning) Key() string { return string(w.Code) + " " + w.ID + " " + w.Subject }

// Commands that mend a drift. A test runs each of them.
const (
	cmdToCloud   = "havip-cluster provider sync --to-cloud"
	cmdPrune     = "havip-cluster provider sync --to-cloud --prune"
	cmdFromCloud = "havip-cluster provider sync --from-cloud"
)

// Compare says where the log and the cloud differ, sorted by HAVIP and code. settle is how long the cloud may take to
// follow a change of owner. It is pure: the same arguments give the same answer.
func Compare(c Cluster, seen []Observed, now time.Time, settle time.Duration) []Warning {
	byAddress := index(seen)
	d := diff{now: now, settle: settle, instances: c.instances(), byCall: c.Caps.ClaimByAPI}
	missing := 0
	for _, w := range c.Wants {
		o, there := byAddress[w.Address]
		if d.byCall {
			if there { // else it was not asked about
				delete(byAddress, w.Address)
				d.owner(w, o)
				d.eip(w, o)
			}
			continue
		}
		if !there {
			missing++
			d.add(w, VIPMissing, "", cmdToCloud, "the cloud has no HAVIP with the address %s: it carries no traffic for it to anybody", w.Address)
			continue
		}
		delete(byAddress, w.Address)
		if d.place(w, o) {
			continue // it has to be made anew, and all of it then is as it should be
		}
		d.ranges(w, o)
		d.owner(w, o)
		d.rest(w, o)
	}
	for _, o := range byAddress {
		d.out = append(d.out, Warning{
			Code: VIPUnknown, Subject: o.Address.String(), Command: cmdFromCloud,
			Message: fmt.Sprintf("the cloud has HAVIP %s (%s, %s), which the cluster does not have", o.ID, o.Name, o.Address),
		})
	}
	for _, e := range c.ENIs {
		if e.Cloud.ID == "" && e.Carries {
			d.out = append(d.out, Warning{
				Code: ENIUnknown, Subject: e.ENI, Command: "havip-cluster eni show " + e.ENI,
				Message: fmt.Sprintf("the VPC has no network interface with the MAC of ENI %s: the cloud will not take its %s", e.ENI, d.words("announcements", "claims")),
			})
		}
	}
	if c.Quota > 0 && missing > 0 && len(seen)+missing > c.Quota {
		d.out = append(d.out, Warning{
			Code: Quota, Subject: "vpc", Command: "havip-cluster cluster show",
			Message: fmt.Sprintf("the VPC has %d of %d HAVIPs, and %d more are missing in it: have the quota raised, or delete some", len(seen), c.Quota, missing),
		})
	}
	slices.SortFunc(d.out, func(a, b Warning) int {
		return cmp.Or(strings.Compare(a.HAVIP, b.HAVIP), strings.Compare(a.ID, b.ID), strings.Compare(string(a.Code), string(b.Code)), strings.Compare(a.Subject, b.Subject))
	})
	return d.out
}

// index finds HAVIPs by their address. One without an address that can be read is left out.
func index(seen []Observed) map[netip.Addr]Observed {
	out := make(map[netip.Addr]Observed, len(seen))
	for _, o := range seen {
		if o.Address.IsValid() {
			out[o.Address] = o
		}
	}
	return out
}

// instances are those of the cluster's nodes.
func (c Cluster) instances() map[string]bool {
	out := map[string]bool{}
	for _, e := range c.ENIs {
		if e.Cloud.Instance != "" {
			out[e.Cloud.Instance] = true
		}
	}
	return out
}

// diff gathers warnings.
type diff struct {
	now       time.Time
	settle    time.Duration
	instances map[string]bool
	byCall    bool // a call, not an announcement, moves an address; there are no HAVIPs to keep then
	out       []Warning
}

func (d *diff) words(announced, called string) string {
	if d.byCall {
		return called
	}
	return announced
}

func (d *diff) add(w Want, code Code, subject, command, format string, args ...any) {
	d.out = append(d.out, Warning{Code: code, HAVIP: w.Name, ID: w.ID, Subject: subject, Command: command, Message: fmt.Sprintf(format, args...)})
}

// place says whether the HAVIP is where nobody can use it.
func (d *diff) place(w Want, o Observed) bool {
	_, subnet, known := w.place()
	elsewhere := known && o.Subnet != "" && o.Subnet != subnet
	if elsewhere {
		d.add(w, SubnetDiffers, "", cmdPrune, "in the cloud it is in %s, the ENIs that may own it are in %s: none of them can; only deleting and making it anew changes that", o.Subnet, subnet)
	}
	return elsewhere
}

func (d *diff) ranges(w Want, o Observed) {
	var refused []string
	for _, c := range w.Candidates {
		if c.Cloud.ID != "" && !o.permits(c) {
			refused = append(refused, fmt.Sprintf("%s (%s of %s)", c.ENI, c.Cloud.ID, c.Cloud.Instance))
		}
	}
	if len(refused) > 0 {
		d.add(w, RangeNarrower, "", cmdToCloud, "the range in the cloud does not have %s: a failover there would carry no traffic", strings.Join(refused, ", "))
	}
	if !w.Limited || !o.RangeKnown {
		return
	}
	if o.Enforced != nil && !*o.Enforced {
		d.add(w, RangeOpen, "", "", "the cloud does not enforce its range: any host of the subnet may take the address; the API cannot switch that on, the cloud's console can")
		return
	}
	if extra := w.beyond(o); len(extra) > 0 {
		d.add(w, RangeWider, "", cmdPrune, "the range in the cloud has %s, which may not own it here", join(extra))
	}
}

// beyond are the members in the cloud that stand for no candidate.
func (w Want) beyond(o Observed) []Member {
	var out []Member
	for _, m := range o.Range {
		if !slices.ContainsFunc(w.Candidates, func(c Candidate) bool {
			return m.Type == MemberCVM && w.Primary && m.ID == c.Cloud.Instance || m.Type == MemberENI && m.ID == c.Cloud.ID
		}) {
			out = append(out, m)
		}
	}
	return out
}

func join(list []Member) string {
	var out []string
	for _, m := range list {
		out = append(out, m.Type+" "+m.ID)
	}
	return strings.Join(out, ", ")
}

func (d *diff) owner(w Want, o Observed) {
	bound := o.State != Unbound && (o.ENI != "" || o.Instance != "")
	if w.Owner == nil || !w.Owner.Serving {
		// An owner that is gone stays the cloud's until somebody announces. A stranger is another matter.
		if bound && o.Instance != "" && len(d.instances) > 0 && !d.instances[o.Instance] {
			d.stranger(w, o)
		}
		return
	}
	if d.now.Sub(w.Owner.Since) < d.settle {
		return
	}
	switch is := w.Owner.Cloud; {
	case !bound:
		d.add(w, OwnerMissing, "", "", "%s on node %s serves it, and the cloud sends its traffic to nobody: %s", w.Owner.ENI, w.Owner.Node,
			d.words("the cloud has taken none of its announcements; is it in the range there, and in the right subnet?", "somebody took the address away there; the owner claims it again at its next look, and `status` says why when that fails"))
	case is.ID == "" && is.Instance == "":
		return // it cannot be told; eni-unknown says so
	case o.Instance != "" && o.Instance != is.Instance && !d.instances[o.Instance]:
		d.stranger(w, o)
	case o.ENI != "" && is.ID != "" && o.ENI != is.ID, o.Instance != "" && is.Instance != "" && o.Instance != is.Instance:
		d.add(w, OwnerDiffers, "", "", "%s on node %s serves it, and the cloud sends its traffic to %s of %s%s", w.Owner.ENI, w.Owner.Node, cmp.Or(o.ENI, "-"), cmp.Or(o.Instance, "-"),
			d.words(" since "+cmp.Or(o.Flushed, "never")+"; it follows the next announcement that it takes", "; the owner claims it again at its next look, and `status` says why when that fails"))
	}
}

// stranger is an owner in the cloud that is no node of the cluster.
func (d *diff) stranger(w Want, o Observed) {
	if d.byCall {
		d.add(w, OwnerDiffers, "", "", "the cloud sends its traffic to %s of %s, which is no node of this cluster: whoever claims it there has to stop, or the address has to be another one", cmp.Or(o.ENI, "-"), o.Instance)
		return
	}
	d.add(w, OwnerDiffers, "", cmdPrune, "the cloud sends its traffic to %s of %s, which is no node of this cluster, since %s: stop what announces it there, or take it out of the range", cmp.Or(o.ENI, "-"), o.Instance, cmp.Or(o.Flushed, "never"))
}

func (d *diff) rest(w Want, o Observed) {
	d.eip(w, o)
	if o.Name != "" && w.Name != o.Name {
		d.add(w, NameDiffers, "", cmdToCloud, "in the cloud it is called %q", o.Name)
	}
}

func (d *diff) eip(w Want, o Observed) {
	if w.EIP == o.EIP {
		return
	}
	command := cmdFromCloud
	switch missing := w.EIP.IsValid() && !o.EIP.IsValid(); {
	case missing && d.byCall:
		d.add(w, EIPDiffers, "", "", "here it has %s, in the cloud none; this provider binds none: associate it with the address %s by the cloud's own means", eipText(w.EIP), w.Address)
		return
	case missing:
		command = cmdToCloud
	}
	d.add(w, EIPDiffers, "", command, "here it has %s, in the cloud %s", eipText(w.EIP), eipText(o.EIP))
}

func eipText(a netip.Addr) string {
	if !a.IsValid() {
		return "no EIP"
	}
	return "EIP " + a.String()
}
