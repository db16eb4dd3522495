package scenario

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// member is what `node list` says of a node that changes its address.
type member struct {
	Name, ID, Role, Address, Status, Suffrage string
	Session                                   uint64
}

func (b *Bed) member(at, i int) member {
	b.t.Helper()
	var list []member
	out, err := b.Cluster.CLI(at, "node", "list", "-o", "json")
	if err == nil {
		b.must(json.Unmarshal(out, &list))
	}
	for _, m := range list {
		if m.Name == b.Cluster.NodeName(i) {
			return m
		}
	}
	return member{}
}

// readdress gives the host of node i another address, tells the cluster at node at and the node itself,
// and starts its agent, which runs no more.
func (b *Bed) readdress(at, i int, from, to netip.Addr) {
	b.t.Helper()
	name := b.Cluster.NodeName(i)
	b.CLI(at, "node", "set", name, "--address", to.String())
	if _, err := b.Cluster.CLI(i, "node", "set", name, "--address", to.String(), "--local"); err == nil || !strings.Contains(err.Error(), "no interface of this host has "+to.String()) {
		b.t.Errorf("an address that the host lacks: %v", err)
	}
	b.sh(i, fmt.Sprintf("ip addr del %s/24 dev eth0", from), fmt.Sprintf("ip addr add %s/24 dev eth0", to))
	b.CLI(i, "node", "set", name, "--address", to.String(), "--local")
	b.must(b.Cluster.Start(i))
}

// certified reports whether node i shows a certificate for its address at its API port.
func (b *Bed) certified(i int, addr netip.Addr) bool {
	ok := false
	_ = b.Lab.Node(i).Do(func() error {
		conn, err := tls.Dial("tcp", net.JoinHostPort(addr.String(), "7400"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}) //nolint:gosec // only read
		if err != nil {
			return err
		}
		defer conn.Close()
		ok = conn.ConnectionState().PeerCertificates[0].VerifyHostname(addr.String()) == nil
		return nil
	})
	return ok
}

// TestAddressChanges: voters, the leader and a node of role agent get another address and stay the same
// member: id, log and vote, with a certificate for the new address; one that came back elsewhere after
// its host was lost, too. What cannot be is refused. No HAVIP has two owners meanwhile.
func TestAddressChanges(t *testing.T) {
	long(t)
	b := newBed(t, 4, 3)
	b.must(b.Cluster.Join(4, "agent"))
	b.WaitSessions(4)
	name := b.Cluster.NodeName
	old := func(i int) netip.Addr { return b.Lab.Node(i).IP(0) }
	fresh := func(n byte) netip.Addr { return b.Lab.Address(n) }
	settled := func(at, i int, addr netip.Addr, before member) {
		t.Helper()
		b.Eventually(fmt.Sprintf("node-%d at %s", i, addr), func() bool {
			m := b.member(at, i)
			return m.Address == addr.String() && m.Status == "alive" && m.Session > before.Session && m.ID == before.ID && m.Role == before.Role
		})
		b.Eventually(fmt.Sprintf("the vote of node-%d", i), func() bool { return b.member(at, i).Suffrage == before.Suffrage })
		b.Eventually(fmt.Sprintf("a certificate of node-%d for %s", i, addr), func() bool { return b.certified(i, addr) })
		b.CLI(i, "havip", "list") // it answers, also for the leader
	}

	// What is refused.
	leader := b.Leader()
	voter := b.other(leader)
	third := 6 - leader - voter
	for _, c := range []struct {
		address, says string
	}{
		{fresh(61).String(), "so its agent runs at " + old(voter).String() + ": stop it first"},
		{"10.77.0.999", "is not an address at which others reach a node"},
	} {
		if _, err := b.Cluster.CLI(leader, "node", "set", name(voter), "--address", c.address); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.address, err, c.says)
		}
	}
	if _, err := b.Cluster.CLI(voter, "node", "set", name(voter), "--address", old(voter).String(), "--local"); err == nil || !strings.Contains(err.Error(), "runs here; stop it first") {
		t.Errorf("--local beside a running agent: %v", err)
	}

	// A voter that follows. First with an address of another node, of a HAVIP, and one that is wrong.
	before := b.member(leader, voter)
	b.must(b.Cluster.Stop(voter))
	for address, says := range map[string]string{old(third).String(): "belongs to node " + name(third), b.HAVIP.String(): "is the address of HAVIP web"} {
		if _, err := b.Cluster.CLI(leader, "node", "set", name(voter), "--address", address); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", address, err, says)
		}
	}
	seen := b.Watch(func() {
		b.CLI(leader, "node", "set", name(voter), "--address", fresh(69).String()) // nobody is there
		b.readdress(leader, voter, old(voter), fresh(61))
		settled(leader, voter, fresh(61), before)
		b.WaitVoters(3)

		// The leader.
		before = b.member(voter, leader)
		b.must(b.Cluster.Stop(leader))
		b.readdress(voter, leader, old(leader), fresh(62))
		settled(voter, leader, fresh(62), before)

		// A node without a vote, whose host was lost and came back elsewhere.
		before = b.member(voter, 4)
		b.must(b.Cluster.Kill(4, 9))
		b.must(b.Cluster.AwaitEnd(4))
		b.Eventually("node-4 lost", func() bool { return b.member(voter, 4).Session == 0 })
		b.readdress(voter, 4, old(4), fresh(63))
		settled(voter, 4, fresh(63), before)
	})
	if seen.Dual.Certain > 0 {
		t.Errorf("two owners for %s", seen.Dual.Certain)
	}

	// All of them serve: the HAVIP goes to each.
	for _, i := range []int{voter, leader, 4} {
		if b.Owner() != i {
			b.CLI(third, "havip", "move", "web", "--to", name(i))
		}
		b.Eventually("node-"+fmt.Sprint(i)+" serves", func() bool { return b.has(i) && b.Owner() == i })
	}
}
