package scenario

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cloudDelay is how long the cloud of this test takes to follow a claim.
const cloudDelay = 400 * time.Millisecond

// cloudProgram is a cloud in a file: it has the name of the node to which it sends the address.
const cloudProgram = `#!/bin/sh
in=$(cat)
node=${in#*\"node\":\"}; node=${node%%%%\"*}
call=${in#*\"call\":\"}; call=${call%%%%\"*}
case "$call" in
claim) echo "$in" >> %[1]s.log; sleep %[2]g; echo "$node" > %[1]s.new.$$; mv %[1]s.new.$$ %[1]s; echo '{}' ;;
describe) if [ "$(cat %[1]s)" = "$node" ]; then echo '{"here":true}'; else echo "{\"here\":false,\"where\":\"$(cat %[1]s)\"}"; fi ;;
*) echo '{}' ;;
esac
`

// TestClaimByProgram: where a call moves an address, the owner makes it after its lease has opened. The HAVIP
// is PENDING until the cloud follows, the failover has a step for it, an old owner's call that comes late is
// put right, and neither the lease nor a move waits for any of it.
func TestClaimByProgram(t *testing.T) {
	long(t)
	beside(t)
	b := unformed(t, 3)
	state, config := filepath.Join(b.Cluster.Dir, "cloud"), filepath.Join(b.Cluster.Dir, "agent.yaml")
	b.must(os.WriteFile(state, []byte("nobody\n"), 0o600))
	b.must(os.WriteFile(filepath.Join(b.Cluster.Dir, "cloud.sh"), fmt.Appendf(nil, cloudProgram, state, cloudDelay.Seconds()), 0o755))
	b.must(os.WriteFile(config, fmt.Appendf(nil, "provider: {kind: exec, exec: {program: cloud.sh, directory: %s, user: root}}\n", b.Cluster.Dir), 0o600))
	b.Cluster.AgentArgs = append(b.Cluster.AgentArgs, "--config", config)
	b.form(3)
	sentTo := func() string {
		raw, err := os.ReadFile(state)
		b.must(err)
		return strings.TrimSpace(string(raw))
	}
	stateOf := func(at int) string {
		list, err := b.Cluster.PlacementAt(at, true)
		if err != nil || len(list) != 1 {
			return ""
		}
		return list[0].State
	}
	served := func(node int) {
		t.Helper()
		b.Eventually("the cloud sends it to "+b.Cluster.NodeName(node), func() bool { return sentTo() == b.Cluster.NodeName(node) })
		b.Eventually("AVAILABLE", func() bool { return stateOf(node) == "AVAILABLE" })
	}
	first := b.Owner()
	served(first)

	second := b.other(first, b.Leader())
	began := time.Now()
	b.CLI(second, "havip", "move", "web", "--to", b.Cluster.NodeName(second))
	b.Eventually("it is PENDING at its new owner", func() bool {
		return b.has(second) && stateOf(second) == "PENDING" && sentTo() == b.Cluster.NodeName(first)
	})
	if took := time.Since(began); took > ownedWait/2 {
		t.Errorf("the move took %v until its owner had it", took)
	}
	served(second)

	b.must(b.Cluster.Kill(second, syscall.SIGKILL))
	third := b.NewOwner(b.other(second), second)
	served(third)
	var list []struct {
		Epoch uint64 `json:"epoch"`
		To    string `json:"to"`
		Steps []struct {
			Step    string  `json:"step"`
			AfterMS float64 `json:"after_ms"`
		} `json:"steps"`
	}
	claimed := false
	b.Eventually("the timeline has the cloud's step", func() bool {
		raw := b.CLI(third, "failovers", "web", "-o", "json")
		if err := json.Unmarshal(raw, &list); err != nil {
			t.Logf("%v in %s", err, raw)
			return false
		}
		for _, f := range list {
			for _, s := range f.Steps {
				claimed = claimed || s.Step == "claimed" && strings.HasPrefix(f.To, b.Cluster.NodeName(third)+"/")
			}
		}
		return claimed
	})

	// The dead owner's last call reaches the cloud late: the present one sees it at its next look.
	b.must(os.WriteFile(state, []byte(b.Cluster.NodeName(second)+"\n"), 0o600))
	served(third)
	raw, err := os.ReadFile(state + ".log")
	b.must(err)
	if n := strings.Count(string(raw), "\n"); n != 4 {
		t.Errorf("%d claims for three owners and one that was taken away:\n%s", n, raw)
	}
	if !strings.Contains(string(raw), `"epoch":3`) || !strings.Contains(string(raw), `"ip":"`+b.HAVIP.String()+`"`) {
		t.Errorf("claims: %s", raw)
	}
}
