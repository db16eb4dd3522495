package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/jepsen/netns"
)

// drainResult is `node drain -o json`.
type drainResult struct {
	Result  string `json:"result"`
	Running bool   `json:"running"`
	Total   int    `json:"total"`
	Moved   int    `json:"moved"`
	Left    []struct {
		HAVIP string `json:"havip"`
	} `json:"left"`
	Stuck []struct {
		HAVIP string `json:"havip"`
	} `json:"stuck"`
}

// drain runs `node drain` from another node, to its end. The error is a *netns.CLIError
// with code 1 if something stays.
func (b *Bed) drain(at, node int) (drainResult, error) {
	b.t.Helper()
	var r drainResult
	out, err := b.Cluster.CLI(at, "node", "drain", b.Cluster.NodeName(node), "-o", "json")
	if len(out) > 0 {
		b.must(json.Unmarshal(out, &r))
	}
	return r, err
}

// refusal is the text of a command that ended with exit code 1.
func (b *Bed) refusal(err error) string {
	b.t.Helper()
	exit := (*netns.CLIError)(nil)
	if !errors.As(err, &exit) || exit.Code != 1 {
		b.t.Fatalf("%v, want a refusal with exit code 1", err)
	}
	return exit.Stderr
}

// allOn moves HAVIPs to a node, and waits until they are there, and served: who owns a HAVIP for the first
// time asks the neighbours before it answers.
func (b *Bed) allOn(node int, names ...string) {
	b.t.Helper()
	name := b.Cluster.NodeName(node)
	b.Eventually("all on "+name, func() bool {
		list, err := b.Cluster.PlacementAt(node, false)
		if err != nil {
			return false
		}
		served := 0
		for _, p := range list {
			switch {
			case !slices.Contains(names, p.Name):
			case p.Owner() != name:
				_, _ = b.Cluster.CLI(node, "havip", "move", p.Name, "--to", name)
			case p.State == "AVAILABLE":
				served++
			}
		}
		return served == len(names)
	})
}

// rows is the placement by name.
func (b *Bed) rows(at int) map[string]netns.Placement {
	b.t.Helper()
	list, err := b.Cluster.PlacementAt(at, false)
	b.must(err)
	out := map[string]netns.Placement{}
	for _, p := range list {
		out[p.Name] = p
	}
	return out
}

// watchAll is Watch for many HAVIPs: a client for each, and one observer.
func (b *Bed) watchAll(havips []netip.Addr, fault func()) (of []Measured) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var probers []*netns.Prober
	for _, ip := range havips {
		p, err := b.Lab.Probe(ctx, b.Lab.Client(), ip, port, 2*time.Millisecond)
		b.must(err)
		probers = append(probers, p)
	}
	observer, err := b.Lab.Observe(ctx, havips, port, 4*time.Millisecond)
	b.must(err)
	time.Sleep(settleTime)
	fault()
	over := b.Lab.Now()
	time.Sleep(settleTime)
	for _, p := range probers {
		answeredAfter(p, over)
	}
	dual := observer.DualOwner()
	for _, p := range probers {
		p.Stop()
		of = append(of, measured(p, 3*time.Millisecond, dual))
	}
	observer.Stop()
	return of
}

// Four HAVIPs leave a node one after another; nobody notices.
func TestNodeDrain(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	names, havips := []string{"web"}, []netip.Addr{b.HAVIP}
	for i := range 3 {
		names, havips = append(names, fmt.Sprintf("more-%d", i)), append(havips, b.Lab.Address(byte(101+i)))
		b.CLI(1, "havip", "create", names[i+1], "--ip", havips[i+1].String(), "--no-range-limit")
	}
	s := &Series{Name: "node drain of 4 HAVIPs, 3 nodes"}
	for range Runs(2) {
		node := b.Owner()
		at := b.other(node)
		b.allOn(node, names...)
		time.Sleep(settleTime)
		before := b.rows(at)
		var r drainResult
		for i, m := range b.watchAll(havips, func() {
			var err error
			r, err = b.drain(at, node)
			b.must(err)
		}) {
			if noDual(t, m); m.After == "" || m.After == b.Cluster.NodeName(node) {
				t.Errorf("%q answers last for %s, and %s was drained", m.After, names[i], b.Cluster.NodeName(node))
			}
			s.Add(m)
		}
		if r.Result != "done" || r.Total != 4 || r.Moved != 4 || len(r.Left)+len(r.Stuck) != 0 {
			t.Errorf("the drain says %+v", r)
		}
		b.oneByOne(node, before, b.rows(at))
		name := b.Cluster.NodeName(node)
		if _, err := b.Cluster.CLI(at, "havip", "move", "web", "--to", name); err == nil {
			t.Errorf("%s got a HAVIP though it is drained", name)
		}
		if again, err := b.drain(at, node); err != nil || again.Total != 0 {
			t.Errorf("a second drain: %+v, %v", again, err)
		}
		b.CLI(at, "node", "activate", name)
		b.allOn(node, "web")
	}
	report(t, s, 20*time.Millisecond)
}

// oneByOne: each HAVIP has left the node by one decision of its own.
func (b *Bed) oneByOne(node int, before, after map[string]netns.Placement) {
	b.t.Helper()
	decided := map[uint64]string{}
	for name, was := range before {
		is := after[name]
		if is.Owner() == b.Cluster.NodeName(node) || is.Owner() == "" || is.Epoch != was.Epoch+1 {
			b.t.Errorf("%s was with %s (epoch %d), is with %s (epoch %d)", name, was.Owner(), was.Epoch, is.Owner(), is.Epoch)
		}
		decision := ask[struct {
			Index uint64 `json:"index"`
		}](b, b.other(node), "explain", name, "--epoch", fmt.Sprint(is.Epoch))
		if other, twice := decided[decision.Index]; twice || decision.Index == 0 {
			b.t.Errorf("%s left with entry %d of the log, and so did %q", name, decision.Index, other)
		}
		decided[decision.Index] = name
	}
}

// What has nowhere to go stays, is served, and is named; the others leave.
func TestNodeDrainWithNowhereToGo(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	node := b.Owner()
	at, name, ip := b.other(node), b.Cluster.NodeName(node), b.Lab.Address(101)
	b.CLI(at, "havip", "create", "pinned", "--ip", ip.String(), "--range", "cvm:"+name)
	b.allOn(node, "web", "pinned")
	time.Sleep(settleTime)
	var r drainResult
	var said string
	of := b.watchAll([]netip.Addr{b.HAVIP, ip}, func() {
		var err error
		r, err = b.drain(at, node)
		said = b.refusal(err)
	})
	noDual(t, of[0])
	if !strings.Contains(said, "nobody else can own HAVIP pinned") || len(r.Stuck) != 1 || r.Stuck[0].HAVIP != "pinned" || r.Moved != 1 || !r.Running {
		t.Errorf("the drain says %+v and %q", r, said)
	}
	if owners := b.owners(at); owners["pinned"] != name || owners["web"] == name || owners["web"] == "" {
		t.Errorf("owners %v", owners)
	}
	t.Logf("web: gap %s; pinned, which stays: gap %s", of[0].Gap, of[1].Gap)
	if of[1].After != name {
		t.Errorf("pinned was answered by %q", of[1].After)
	}
	if of[1].Gap > 20*time.Millisecond {
		timely(t, "pinned stays, and was not answered for %s", of[1].Gap)
	}
	b.CLI(at, "node", "activate", name)
	b.allOn(node, "web", "pinned")
	for tries := 1; ; tries++ { // on a busy host the other one may not leave within a second
		_, err := b.Cluster.CLI(at, "node", "drain", name, "--deadline", "1s")
		if strings.Contains(b.refusal(err), "the deadline passed with 1 of 2 HAVIPs left") {
			break
		}
		if tries == attempts {
			t.Errorf("with a deadline: %v", err)
			break
		}
		b.CLI(at, "node", "activate", name)
		b.allOn(node, "web", "pinned")
	}
	b.CLI(at, "node", "activate", name)
	b.allOn(node, "web", "pinned")
}

// drained are many: the leader must die while some have left and some have not.
const drainedMany = 40

// The leader is killed in the middle of a drain; the next one goes on with it.
func TestNodeDrainOutlivesItsLeader(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	for range attempts {
		leader := b.Leader()
		node := b.other(leader)
		at := b.other(leader, node)
		names := b.many(at, node)
		var left int
		var r drainResult
		var err error
		m := b.Watch(func() {
			ended := make(chan struct{})
			go func() { defer close(ended); r, err = b.drain(at, node) }()
			b.Eventually("the first has left", func() bool { return b.onNode(at, node) < len(names) })
			b.must(b.Cluster.Kill(leader, syscall.SIGKILL))
			left = b.onNode(at, node)
			<-ended
		})
		noDual(t, m)
		if err != nil { // the command may miss the leader that it asked; it can be given again
			t.Logf("the command that saw the leader die: %v", err)
			b.Leader()
			r, err = b.drain(at, node)
		}
		if err != nil || r.Result != "done" || b.onNode(at, node) != 0 {
			t.Errorf("the drain says %+v, %v; %d left", r, err, b.onNode(at, node))
		}
		b.Eventually("all are owned", func() bool { return len(b.owners(at)) == len(names) })
		b.must(b.Cluster.Start(leader))
		b.WaitSessions(3)
		b.CLI(at, "node", "activate", b.Cluster.NodeName(node))
		t.Logf("%d of %d were left when the leader had been killed; gap of web %s, dual-owner %s", left, len(names), m.Gap, m.Dual.Certain)
		if left > 0 && left < len(names) {
			return
		}
	}
	t.Errorf("no leader was killed in the middle of a drain, in %d attempts", attempts)
}

// onNode counts what a node owns, as node at has it applied.
func (b *Bed) onNode(at, node int) (n int) {
	list, err := b.Cluster.PlacementAt(at, true)
	if err != nil {
		return drainedMany
	}
	for _, p := range list {
		if p.Owner() == b.Cluster.NodeName(node) {
			n++
		}
	}
	return n
}

// many makes HAVIPs that are at home on a node and go back to it, web among them.
func (b *Bed) many(at, node int) (names []string) {
	b.t.Helper()
	var file strings.Builder
	fmt.Fprintln(&file, "version: 1\nhavips:")
	for i := range drainedMany {
		name := "web"
		if i > 0 {
			name = fmt.Sprintf("many-%d", i)
		}
		names = append(names, name)
		fmt.Fprintf(&file, "  - {name: %s, ip: %s, range: {type: cvm, members: [node-1, node-2, node-3], limit: true}, prefer: {%s: 100}, stickiness: 1, failback: immediate}\n",
			name, b.Lab.Address(byte(100+i)), b.Cluster.NodeName(node))
	}
	path := filepath.Join(b.t.TempDir(), "many.yaml")
	b.must(os.WriteFile(path, []byte(file.String()), 0o600))
	b.CLI(at, "apply", "-f", path)
	b.Eventually("all at home", func() bool { return b.onNode(at, node) == drainedMany })
	time.Sleep(settleTime)
	return slices.Clip(names)
}
