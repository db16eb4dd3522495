package scenario

import "testing"

// Right after `bootstrap` the node leads and has not told of its networks: a HAVIP waits for them, with its address and without.
// Whoever was invited and does not come is removed by making the token void.
func TestFirstSecondOfACluster(t *testing.T) {
	beside(t)
	b := unformed(t, 1)
	b.must(b.Cluster.Bootstrap())
	b.CLI(1, "havip", "create", "web", "--ip", b.HAVIP.String())
	b.CLI(1, "havip", "create", "db")
	b.Owner()
	b.CLI(1, "node", "add", "node-9")
	if out := b.CLI(1, "node", "remove", "node-9"); !contains(out, "node node-9 had not joined; its join token is void now") {
		t.Errorf("node remove says %s", out)
	}
	if _, err := b.Cluster.CLI(1, "node", "remove", "node-9"); err == nil {
		t.Error("it was removed twice")
	}
}
