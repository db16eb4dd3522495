package fsm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// checkInvariants returns everything that must hold in every state, and does not.
func checkInvariants(s *State) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Cluster.LeaseMax < s.Cluster.Lease {
		bad("the longest lease %s is shorter than the lease %s", s.Cluster.LeaseMax, s.Cluster.Lease)
	}
	if s.Cluster.LeaseIndex > s.Index {
		bad("the lease changed at index %d, after %d", s.Cluster.LeaseIndex, s.Index)
	}
	checkNodes(s, bad)
	checkENIs(s, bad)
	checkHAVIPs(s, bad)
	checkProbes(s, bad)
	checkBounds(s, bad)
	checkPolicy(s, bad)
	checkEdge(s, bad)
	checkChecks(s, bad)
	return errors.Join(errs...)
}

type complain func(format string, args ...any)

func checkNodes(s *State, bad complain) {
	names := map[string]string{}
	for id, n := range s.Nodes {
		if n.ID != id {
			bad("node %s is kept under %s", n.ID, id)
		}
		if other, ok := names[n.Name]; ok {
			bad("nodes %s and %s share the name %s", id, other, n.Name)
		}
		names[n.Name] = id
		if r := s.checkKeys(n); r != nil {
			bad("%v", r)
		}
		if !slices.Contains([]Role{RoleVoter, RoleWitness, RoleAgent}, n.Role) {
			bad("node %s has the role %q", n.Name, n.Role)
		}
		if _, err := netip.ParseAddr(n.Address); err != nil {
			bad("node %s has no address: %v", n.Name, err)
		}
		if n.LastSession > s.Index {
			bad("node %s has session %d from the future", n.Name, n.LastSession)
		}
	}
	for number, sess := range s.Sessions {
		n, ok := s.Nodes[sess.Node]
		switch {
		case sess.Number != number:
			bad("session %d is kept under %d", sess.Number, number)
		case !ok:
			bad("session %d belongs to %s, which is no member", number, sess.Node)
		case n.LastSession != number:
			bad("session %d of node %s is open, its last one is %d", number, n.Name, n.LastSession)
		}
	}
	for id, t := range s.Tokens {
		if t.ID != id || t.Node == "" || t.SecretHash == "" {
			bad("token %+v is kept under %s", t, id)
		}
	}
}

func checkENIs(s *State, bad complain) {
	perNode := map[string]int{}
	for id, e := range s.ENIs {
		n, ok := s.Nodes[e.Node]
		switch {
		case !ok:
			bad("ENI %s belongs to %s, which is no member", id, e.Node)
		case id != e.ID || !strings.HasPrefix(id, n.Name+"/") || s.Level() < 3 && id != n.Name+"/"+e.Device:
			bad("ENI %s of node %s, device %s, is kept under %s", e.ID, n.Name, e.Device, id)
		}
		if _, ok := s.Subnets[e.Subnet]; !ok && e.Subnet != "" {
			bad("ENI %s is in subnet %s, which is not there", id, e.Subnet)
		}
		if e.Detached && e.Up {
			bad("ENI %s is detached and up", id)
		}
		perNode[e.Node]++
		if len(e.Prefixes) > MaxPrefixesPerENI {
			bad("ENI %s has %d prefixes", id, len(e.Prefixes))
		}
	}
	for node, n := range perNode {
		if n > MaxENIsPerNode && !claimsDetached(s, node) {
			bad("node %s has %d ENIs", node, n)
		}
	}
	for name, sub := range s.Subnets {
		if sub.Name != name || sub.VPC == "" || !possibleSubnet(sub.CIDR) || sub.CIDR != sub.CIDR.Masked() {
			bad("subnet %+v is kept under %s", sub, name)
		}
		for other, sub2 := range s.Subnets {
			if name < other && sub.VPC == sub2.VPC && sub.CIDR.Overlaps(sub2.CIDR) {
				bad("subnets %s and %s overlap", name, other)
			}
		}
		if sub.Cursor.IsValid() && !sub.CIDR.Contains(sub.Cursor) {
			bad("the cursor of subnet %s is %s", name, sub.Cursor)
		}
	}
}

// claimsDetached says whether a node has a claim on an ENI that it no longer reports:
// only then may it have more ENIs than the limit.
func claimsDetached(s *State, node string) bool {
	for _, v := range s.HAVIPs {
		for _, c := range v.Claims() {
			if c.Node == node && s.ENIs[c.ENI].Detached {
				return true
			}
		}
	}
	return false
}

func checkHAVIPs(s *State, bad complain) {
	type place struct {
		vpc string
		ip  netip.Addr
	}
	taken := map[place]string{}
	for id, v := range s.HAVIPs {
		if v.ID != id || !strings.HasPrefix(id, "havip-") {
			bad("HAVIP %s is kept under %s", v.ID, id)
		}
		at := place{v.VPC, v.IP}
		if other, ok := taken[at]; ok {
			bad("HAVIPs %s and %s share %s in %s", id, other, v.IP, v.VPC)
		}
		taken[at] = id
		sub, ok := s.Subnets[v.Subnet]
		switch {
		case !ok:
			bad("HAVIP %s is in subnet %s, which is not there", v.Name, v.Subnet)
		case sub.VPC != v.VPC || !sub.CIDR.Contains(v.IP) || s.addressAllowed(sub, v.IP) != nil:
			bad("HAVIP %s (%s in %s) does not fit subnet %+v", v.Name, v.IP, v.VPC, sub)
		}
		if _, refusal := checkName(v.Name); refusal != nil {
			bad("HAVIP %s: %s", id, refusal)
		}
		checkClaims(s, v, bad)
	}
}

func checkClaims(s *State, v HAVIP, bad complain) {
	var last Epoch
	for _, c := range v.Claims() {
		if c.Epoch <= last || c.Epoch > v.Epoch {
			bad("HAVIP %s: epoch %d comes after %d, the newest is %d", v.Name, c.Epoch, last, v.Epoch)
		}
		last = c.Epoch
		if sess, ok := s.Sessions[c.Session]; !ok || sess.Node != c.Node {
			bad("HAVIP %s: the claim %+v has no open session", v.Name, c)
		}
		if e, ok := s.ENIs[c.ENI]; !ok || e.Node != c.Node {
			bad("HAVIP %s: the claim %+v has no ENI", v.Name, c)
		}
	}
	if v.Deleting && (v.Owner != nil || len(v.Draining) == 0) {
		bad("HAVIP %s is being deleted and waits for nobody, or is still owned", v.Name)
	}
	if v.Owner == nil {
		return
	}
	if v.Disabled {
		bad("HAVIP %s is disabled and owned", v.Name)
	}
	// A range shrinks only around its owner. Whether the owner's ENI has become the
	// primary one, was banned or lost its link since, is for the placement to answer.
	if s.outOfRange(v) == "not-in-range" {
		bad("HAVIP %s: %s owns it and is not in the range", v.Name, v.Owner.ENI)
	}
}

// checkBounds checks every limit of types.go.
func checkBounds(s *State, bad complain) {
	atMost := func(what string, n, limit int) {
		if n > limit {
			bad("%s: %d, at most %d", what, n, limit)
		}
	}
	text := func(what, s string) {
		atMost("bytes of "+what, len(s), MaxReason)
		if !utf8.ValidString(s) {
			bad("%s is not UTF-8: %q", what, s)
		}
	}
	atMost("nodes", len(s.Nodes), MaxNodes)
	atMost("subnets", len(s.Subnets), MaxSubnets)
	atMost("HAVIPs", len(s.HAVIPs), MaxHAVIPs)
	atMost("tokens", len(s.Tokens), MaxTokens)
	atMost("credentials", len(s.Credentials), MaxCredentials)
	atMost("audited changes", len(s.Audit), MaxAudited)
	atMost("answered", len(s.answered), MaxAnswered)
	atMost("events", len(s.Events), MaxEvents)
	atMost("failovers", len(s.Failovers), MaxFailovers)
	for _, sub := range s.Subnets {
		atMost("reserved", len(sub.Reserved), MaxReserved)
	}
	for _, v := range s.HAVIPs {
		atMost("range members", len(v.Range.Members), RangeMembersCap)
		atMost("preferences", len(v.Prefer), MaxPrefer)
		atMost("bans", len(v.Bans), MaxBans)
		atMost("draining claims", len(v.Draining), MaxDraining)
		text("a reason", v.Reason)
		if !slices.IsSorted(v.Bans) || !slices.IsSorted(v.Range.Members) {
			bad("HAVIP %s: bans %v or range %v are not sorted", v.Name, v.Bans, v.Range.Members)
		}
		for _, g := range v.GaveUp {
			text("a failure", g.Reason)
		}
	}
	var last uint64
	for _, e := range s.Events {
		text("an event", e.Text)
		if e.Index < last || e.Index > s.Index {
			bad("an event of index %d follows one of %d in a state of %d", e.Index, last, s.Index)
		}
		last = e.Index
	}
	keys := map[string]bool{}
	for _, a := range s.answered {
		if keys[a.By+" "+a.Key] {
			bad("key %q is answered twice", a.Key)
		}
		keys[a.By+" "+a.Key] = true
	}
	for _, f := range s.Failovers {
		atMost("steps", len(f.Steps), MaxFailoverSteps)
	}
}

// A checker that cannot fail proves nothing: each planted fault must be named.
func TestInvariantsNoticePlantedFaults(t *testing.T) {
	change := func(f func(v *HAVIP)) func(w *world, s *State) {
		return func(w *world, s *State) {
			v := w.get("web")
			f(&v)
			s.HAVIPs[v.ID] = v
		}
	}
	for _, tc := range []struct {
		name, want string
		plant      func(w *world, s *State)
	}{
		{"a claim outlives its session", "has no open session", func(w *world, s *State) { delete(s.Sessions, w.session("n1")) }},
		{"the owner is newer than the HAVIP's epoch", "the newest is 1", change(func(v *HAVIP) { v.Epoch = 1 })},
		{"epochs out of order", "comes after", change(func(v *HAVIP) { v.Draining = []Claim{*v.Owner} })},
		{"an older session is open", "its last one is", func(w *world, s *State) {
			n := w.node("n2")
			n.LastSession++
			s.Nodes[n.ID] = n
		}},
		{"a session without its node", "which is no member", func(w *world, s *State) { delete(s.Nodes, "n-n1") }},
		{"two nodes of one name", "share the name n1", func(w *world, s *State) {
			n := w.node("n2")
			n.Name = "n1"
			s.Nodes[n.ID] = n
		}},
		{"two HAVIPs of one address", "share 10.0.0.100", func(w *world, s *State) {
			v := w.get("web")
			v.ID, v.Owner, v.Draining = "havip-twin0000", nil, nil
			s.HAVIPs[v.ID] = v
		}},
		{"a HAVIP outside its subnet", "does not fit", change(func(v *HAVIP) { v.IP = addr("10.0.1.100") })},
		{"a HAVIP without a subnet", "which is not there", func(w *world, s *State) { delete(s.Subnets, "net") }},
		{"overlapping subnets", "overlap", func(w *world, s *State) {
			s.Subnets["half"] = Subnet{Name: "half", VPC: DefaultVPC, CIDR: prefix("10.0.0.0/25")}
		}},
		{"an owner outside a limited range", "not in the range", change(func(v *HAVIP) {
			v.Range = Range{Type: RangeCVM, Members: []string{"n3"}, Limit: true}
		})},
		{"a disabled HAVIP with an owner", "disabled and owned", change(func(v *HAVIP) { v.Disabled = true })},
		{"a deleted HAVIP with an owner", "being deleted", change(func(v *HAVIP) { v.Deleting = true })},
		{"a maximum below the lease", "shorter than the lease", func(w *world, s *State) { s.Cluster.LeaseMax = time.Millisecond }},
		{"too many events", "events: 1001", func(w *world, s *State) { s.Events = make([]Event, MaxEvents+1) }},
		{"too many draining claims", "draining claims: 33", change(func(v *HAVIP) { v.Draining = make([]Claim, 33) })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := trio(t)
			w.havip("web", "10.0.0.100")
			w.place("web", "n2/eth0")
			w.place("web", "n1/eth0")
			s := w.state.clone()
			tc.plant(w, s)
			if err := checkInvariants(s); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}
