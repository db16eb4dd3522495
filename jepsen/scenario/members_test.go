package scenario

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"havip-cluster/jepsen/netns"
)

// refused runs a command that must fail with a code, and say a word.
func (b *Bed) refused(i, code int, word string, args ...string) {
	b.t.Helper()
	_, err := b.Cluster.CLI(i, args...)
	var e *netns.CLIError
	if !errors.As(err, &e) {
		b.t.Fatalf("%v: done, though it should be refused (%v)", args, err)
	}
	if e.Code != code || !strings.Contains(e.Stderr, word) {
		b.t.Errorf("%v: exit code %d, %q; want %d and %q", args, e.Code, e.Stderr, code, word)
	}
}

func (b *Bed) token(i int, node string) string {
	b.t.Helper()
	var added struct {
		Token string `json:"token"`
	}
	b.must(json.Unmarshal(b.CLI(i, "node", "add", node, "-o", "json"), &added))
	return added.Token
}

// Each refusal leaves the cluster as it was, and no data directory behind.
func TestJoinRefusals(t *testing.T) {
	beside(t)
	b := newBed(t, 3, 1)
	peer := b.Lab.Node(1).IP(0).String() + ":7400"
	join := func(name, token string) []string {
		return []string{"join", "--node", name, "--advertise", b.Lab.Node(2).IP(0).String(), "--token", token, peer, "--timeout", "20s"}
	}
	good := b.token(1, "node-2")
	before, err := b.Cluster.Nodes()
	b.must(err)

	b.refused(2, 2, "token", join("node-2", "havip1.nonsense")...)
	b.refused(2, 2, "node-2", join("node-9", good)...)
	broken := []byte(good)
	broken[len(broken)/2] ^= 1
	b.refused(2, 2, "token", join("node-2", string(broken))...)
	replaced := good
	good = b.token(1, "node-2")
	b.refused(2, 1, "replaced", join("node-2", replaced)...)

	after, err := b.Cluster.Nodes()
	b.must(err)
	if len(after) != len(before) {
		t.Errorf("a refused join left a node: %+v", after)
	}
	if _, err := os.Stat(filepath.Join(b.Cluster.DataDir(2), "identity.json")); err == nil {
		t.Error("a refused join left a data directory")
	}

	b.CLI(2, join("node-2", good)...)
	b.must(os.Rename(b.Cluster.DataDir(2), b.Cluster.DataDir(2)+".joined"))
	b.refused(2, 1, "used", join("node-2", good)...)
	b.must(os.Rename(b.Cluster.DataDir(2)+".joined", b.Cluster.DataDir(2)))
	b.must(b.Cluster.Start(2))
	b.WaitSessions(2)
}

// A node that lost its disk must not come back as the voter that it was.
func TestWipedDisk(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	b.must(b.Cluster.Stop(3))
	b.must(os.RemoveAll(filepath.Join(b.Cluster.DataDir(3), "raft")))
	b.refused(3, 1, "join it again", "agent")
	b.must(os.RemoveAll(b.Cluster.DataDir(3)))
	b.refused(3, 1, "bootstrap", "agent")
	b.refused(1, 1, "remove", "node", "add", "node-3")
	b.CLI(1, "node", "remove", "node-3", "--timeout", "20s")
	b.must(b.Cluster.Join(3, "voter"))
	b.WaitVoters(3)
	b.WaitSessions(3)
}

// A corrupt or foreign data directory stops the agent with the reason.
func TestDamagedDataDirectory(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	b.must(b.Cluster.Stop(3))
	dir := b.Cluster.DataDir(3)
	for _, damage := range []struct {
		file, word string
		change     func([]byte) []byte
	}{
		{"identity.json", "identity.json", func(x []byte) []byte { return x[:len(x)/2] }},
		{"node.crt", "node.crt", func(x []byte) []byte { return x[1:] }},
		{"node.key", "node.key", func([]byte) []byte { return nil }},
		{"gossip.key", "gossip.key", func(x []byte) []byte { return x[:10] }},
		{"ca.crt", "ca.crt", func([]byte) []byte { x, _ := os.ReadFile(filepath.Join(dir, "node.crt")); return x }},
		{"raft/log.db", "log.db", func(x []byte) []byte { return append([]byte("no database"), x[11:]...)[:4096] }},
	} {
		path := filepath.Join(dir, damage.file)
		whole, err := os.ReadFile(path)
		b.must(err)
		b.must(os.WriteFile(path, damage.change(whole), 0o600))
		damaged, err := os.ReadFile(path)
		b.must(err)
		b.refused(3, 1, damage.word, "agent")
		now, err := os.ReadFile(path)
		b.must(err)
		if string(now) != string(damaged) {
			t.Errorf("%s was changed by the agent that refused it", damage.file)
		}
		b.must(os.WriteFile(path, whole, 0o600))
	}
	b.must(b.Cluster.Start(3))
	b.WaitSessions(3)
}

// Two hosts and a witness survive the loss of either host; the witness owns nothing.
func TestTwoHostsAndAWitness(t *testing.T) {
	beside(t)
	b := newBed(t, 3, 2)
	b.must(b.Cluster.Join(3, "witness"))
	b.WaitVoters(3)
	b.refused(1, 1, "witness", "havip", "move", "web", "--to", "node-3")
	owner := b.Owner()
	m := b.Watch(func() {
		b.must(b.Lab.Node(owner).SetLink(0, false))
		if now := b.NewOwner(3-owner, owner); now != 3-owner {
			t.Errorf("node-%d owns it, not the other host", now)
		}
	})
	noDual(t, m)
	b.must(b.Lab.Node(owner).SetLink(0, true))
	b.WaitSessions(2)
}

// Every node answers a linearizable read, and a change through any node is seen by all.
func TestEveryNodeAnswers(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	for i := 1; i <= 3; i++ {
		name := "from-" + b.Cluster.NodeName(i)
		b.CLI(i, "havip", "create", name, "--subnet", "net-10.77.0.0-24", "--no-range-limit")
		for j := 1; j <= 3; j++ {
			if out := b.CLI(j, "havip", "list", "-o", "json"); !contains(out, `"`+name+`"`) {
				t.Errorf("node-%d does not show what node-%d has acknowledged", j, i)
			}
		}
		b.CLI(i, "havip", "delete", name, "--force")
	}
}
