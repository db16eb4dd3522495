package membership

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// ready returns the connections of a node to another one that nobody uses.
func ready(from, to *peer) []*dialled {
	d := from.node.parts.Transport.(*boundTransport).out
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*dialled(nil), d.spares[to.address()]...)
}

func spareCluster(t *testing.T) (leader, follower, other *peer, c *cluster) {
	c = startCluster(t, 3)
	leader = c.leader()
	f := c.followers()
	follower, other = f[0], f[1]
	eventually(t, "connections are ready", func() bool {
		return len(ready(follower, other)) == sparesKept && len(ready(other, follower)) == sparesKept
	})
	return leader, follower, other, c
}

// Who stands for election and begins to lead waits for no handshake.
func TestConnectionsAreReady(t *testing.T) {
	t.Parallel()
	_, follower, other, _ := spareCluster(t)
	d := follower.node.parts.Transport.(*boundTransport).out
	before := ready(follower, other)
	c, err := d.Dial(other.address(), time.Second)
	check(t, err)
	defer c.Close()
	if c != before[len(before)-1] {
		t.Error("a connection is ready and another one was made")
	}
	eventually(t, "another one takes its place", func() bool { return len(ready(follower, other)) == sparesKept })
}

// One that the other end has closed is not handed out, as after its restart.
func TestDeadConnectionIsNotReady(t *testing.T) {
	t.Parallel()
	_, follower, other, c := spareCluster(t)
	d := follower.node.parts.Transport.(*boundTransport).out
	before := ready(follower, other)
	other.close()
	eventually(t, "they are known to be dead", func() bool { return !before[0].alive() && !before[1].alive() })
	other.open()
	other.reconcile(c.all)
	eventually(t, "a sound one is handed out", func() bool {
		got, err := d.Dial(other.address(), time.Second)
		if err != nil {
			return false
		}
		defer got.Close()
		if got == before[0] || got == before[1] {
			t.Fatal("a dead connection was handed out")
		}
		return got.(*dialled).alive()
	})
}

// They are kept for voters, by voters, and not for ever.
func TestConnectionsAreGivenUp(t *testing.T) {
	t.Parallel()
	_, follower, other, _ := spareCluster(t)
	d := follower.node.parts.Transport.(*boundTransport).out
	servers := func() []raft.Server { return d.roster.voters() }
	if out := d.unwanted(servers()); len(out) != 0 {
		t.Errorf("%d are given up though all are wanted", len(out))
	}
	for _, c := range ready(follower, other) {
		d.mu.Lock()
		c.made = c.made.Add(-sparesAge)
		d.mu.Unlock()
	}
	out := d.unwanted(servers())
	if len(out) != sparesKept {
		t.Errorf("%d of %d old ones are given up", len(out), sparesKept)
	}
	out = append(out, d.unwanted(nil)...)
	if left := ready(follower, other); len(left) != 0 {
		t.Errorf("nobody is wanted, and %d are kept", len(left))
	}
	for _, c := range out {
		_ = c.Close()
	}
}
