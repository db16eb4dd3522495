package scenario

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestReplaceOfADeadVoter: one command takes out a voter that is lost and makes the token of the
// one that takes its place; one that is there is not touched.
func TestReplaceOfADeadVoter(t *testing.T) {
	long(t)
	b := newBed(t, 4, 3)
	name := b.Cluster.NodeName
	if _, err := b.Cluster.CLI(1, "node", "replace", name(2), "--by", name(4)); err == nil || !strings.Contains(err.Error(), "is for one that is lost for good") {
		t.Fatalf("a living node: %v", err)
	}
	dead := b.other(b.Leader())
	at := b.other(dead)
	b.must(b.Cluster.Kill(dead, 9))
	b.must(b.Cluster.AwaitEnd(dead))
	b.Eventually("the dead node lost", func() bool {
		var list []struct {
			Name, Status string
			Session      uint64
		}
		b.must(json.Unmarshal(b.CLI(at, "node", "list", "-o", "json"), &list))
		for _, n := range list {
			if n.Name == name(dead) {
				return n.Status != "alive" && n.Session == 0
			}
		}
		return false
	})
	var r struct{ Removed, Node, Role, Token, Command string }
	b.must(json.Unmarshal(b.CLI(at, "node", "replace", name(dead), "--by", name(4), "-o", "json"), &r))
	if r.Removed != name(dead) || r.Node != name(4) || r.Role != "voter" || r.Token == "" {
		t.Fatalf("%+v", r)
	}
	words := strings.Fields(r.Command) // what it says is typed, with this bed's directories
	peer := words[len(words)-1]
	_, err := b.Cluster.CLI(4, "join", "--node", name(4), "--advertise", b.Lab.Node(4).IP(0).String(), "--token", r.Token, peer)
	b.must(err)
	b.must(b.Cluster.Start(4))
	b.WaitVoters(3)
	b.WaitSessions(3)
}
