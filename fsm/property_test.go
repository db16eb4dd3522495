package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// stage is where the random lives begin: the trio with two HAVIPs that are owned.
func stage(t testing.TB) *State {
	w := trio(t)
	w.havip("web", "10.0.0.100")
	w.havip("api", "10.0.0.101")
	w.place("web", "n1/eth0")
	w.place("api", "n2/eth1")
	w.must(CreateSubnet{subnet("b", "10.1.0.0/29")})
	w.must(CreateToken{w.token("n4", RoleAgent)})
	w.must(CreateToken{w.token("n5", RoleVoter)})
	return w.state
}

// modern is the stage where all nodes read commands of level 2.
func modern(t testing.TB) *State {
	w := &world{t: t, state: stage(t), at: epoch0}
	w.upgrade()
	w.must(ChangeRange{ID: w.get("api").ID, Type: RangeCVM, Add: []string{"n2", "n3"}})
	w.must(BindEIP{w.get("web").ID, addr("198.51.100.7")})
	w.must(BanHAVIP{w.get("web").ID, "n3", time.Minute})
	w.must(CreateGroup{Group{Name: "g0", Kind: Apart, Hard: true, HAVIPs: []string{"web", "api"}}})
	return w.state
}

// A replica has the state after a log, and what it cost to get there.
type replica struct {
	state *State
	at    int64
	log   [][]byte
}

// oldKeys are the fields that a body of level 1 may have, by kind.
var oldKeys = func() map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for _, kind := range kindsOfLevel1 {
		b, _ := newBody(kind)
		out[kind] = map[string]bool{}
		jsonNames(out[kind], "", reflect.TypeOf(b))
	}
	return out
}()

// step draws one command, sends it through its encoding and applies it, and checks what
// holds for every step.
func (r *replica) step(t *rapid.T) (Command, Result) {
	r.at += int64(rapid.IntRange(0, 5).Draw(t, "seconds")) * int64(time.Second)
	body := chooser{t: t, s: r.state, at: r.at}.body()
	key := rapid.SampledFrom([]string{"", "", "", "", "k1", "k2"}).Draw(t, "key")
	c, err := NewCommand(r.at, "n-n1", key, body)
	if err != nil {
		t.Fatal(err)
	}
	c.Caller = chooser{t: t, s: r.state, at: r.at}.maybeCaller()
	entry, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if c, err = DecodeCommand(entry); err != nil {
		t.Fatal(err)
	}
	if names := oldKeys[c.Kind]; entry[0] == 1 {
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(c.Body, &keys); err != nil || names == nil {
			t.Fatalf("%s: an entry of version 1: %v", entry[1:], err)
		}
		for key := range keys {
			if !names["."+key] {
				t.Fatalf("%s: an entry of version 1 has the field %s", entry[1:], key)
			}
		}
	}
	before := r.state
	image := snapshotOf(t, before)
	next, res, err := Apply(before, before.Index+1, c)
	if err != nil {
		t.Fatalf("%s: %v", entry, err)
	}
	if !bytes.Equal(snapshotOf(t, before), image) {
		t.Fatalf("%s changed the state it was applied to", entry)
	}
	if err := checkInvariants(next); err != nil {
		t.Fatalf("%s\n%v", entry, err)
	}
	if (res.Refusal != nil || res.Repeated) && !bytes.Equal(snapshotOf(t, atIndex(next, before.Index)), image) {
		t.Fatalf("%s was refused or repeated, and changed the state", entry)
	}
	if err := checkStep(before, next, c.Kind); err != nil {
		t.Fatalf("%s\n%v", entry, err)
	}
	r.state, r.log = next, append(r.log, entry)
	return c, res
}

func snapshotOf(t *rapid.T, s *State) []byte {
	b, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkStep returns what a single command must never do.
func checkStep(before, after *State, kind string) error {
	for id, n := range before.Nodes {
		if n2, ok := after.Nodes[id]; ok && n2.LastSession < n.LastSession {
			return fmt.Errorf("the last session of node %s goes back from %d to %d", n.Name, n.LastSession, n2.LastSession)
		}
	}
	for id, v := range before.HAVIPs {
		v2, ok := after.HAVIPs[id]
		if ok && v2.Epoch < v.Epoch {
			return fmt.Errorf("the epoch of HAVIP %s goes back from %d to %d", v.Name, v.Epoch, v2.Epoch)
		}
		if ok && (v2.IP != v.IP || v2.Subnet != v.Subnet || v2.VPC != v.VPC) {
			return fmt.Errorf("HAVIP %s moves from %s to %s", v.Name, v.IP, v2.IP)
		}
		if ok && v2.Owner != nil && (v.Owner == nil || *v2.Owner != *v.Owner) && v2.Owner.Epoch <= v.Epoch {
			return fmt.Errorf("HAVIP %s has a new owner with the old epoch %d", v.Name, v2.Owner.Epoch)
		}
		for _, cl := range v.Claims() {
			if !slices.Contains(v2.Claims(), cl) && !slices.Contains([]string{"release", "close-session", "close-sessions", "open-session"}, kind) {
				return fmt.Errorf("%s ends the claim %+v on HAVIP %s", kind, cl, v.Name)
			}
		}
	}
	if err := checkEdgeStep(before, after, kind); err != nil {
		return err
	}
	if before.Cluster.LeaseMax > after.Cluster.LeaseMax && kind != "settle-lease" {
		return fmt.Errorf("%s lowers the longest lease from %s to %s", kind, before.Cluster.LeaseMax, after.Cluster.LeaseMax)
	}
	return nil
}

// checkEdgeStep: nobody gets a HAVIP that some fence does not know, no session begins with a
// fence that is behind, and only the owner's word makes a HAVIP served.
func checkEdgeStep(before, after *State, kind string) error {
	for number, sess := range after.Sessions {
		was, open := before.Sessions[number]
		if open && sess.Guarded < was.Guarded {
			return fmt.Errorf("%s: session %d guards up to %d, and did up to %d", kind, number, sess.Guarded, was.Guarded)
		}
		if !open && before.Level() >= 3 && sess.Guarded < before.Cluster.GuardIndex {
			return fmt.Errorf("%s: session %d begins with a fence at %d, there are HAVIPs of %d", kind, number, sess.Guarded, before.Cluster.GuardIndex)
		}
	}
	for id, v := range after.HAVIPs {
		was := before.HAVIPs[id]
		if v.Owner != nil && (was.Owner == nil || *was.Owner != *v.Owner) {
			if waits := after.Unguarded(v); len(waits) > 0 {
				return fmt.Errorf("%s: HAVIP %s has a new owner, and the fence of %v does not know it", kind, v.Name, waits)
			}
		}
		if v.Served != was.Served && v.Served != 0 && kind != "confirm" {
			return fmt.Errorf("%s: HAVIP %s is served in epoch %d (was %d)", kind, v.Name, v.Served, was.Served)
		}
		if was.ID != "" && v.Guard < was.Guard {
			return fmt.Errorf("%s: HAVIP %s was guarded from %d on, and is from %d on", kind, v.Name, was.Guard, v.Guard)
		}
	}
	return nil
}

// newest is the modern stage where all nodes read commands of level 3, and one HAVIP waits
// for the fences of two nodes.
func newest(t testing.TB) *State {
	w := &world{t: t, state: modern(t), at: epoch0}
	w.upgrade3()
	w.havip("late", "10.0.0.109")
	w.must(ReportGuarded{Node: nodeID("n1"), Session: w.session("n1"), Index: w.state.Index})
	v := w.get("web")
	w.must(Confirm{[]ConfirmedClaim{{v.ID, v.Epoch, v.Owner.Session}}})
	return w.state
}

// doored is the newest stage where all nodes read commands of level 4, and two have keys.
func doored(t testing.TB) *State {
	w := &world{t: t, state: newest(t), at: epoch0}
	w.upgrade4()
	for i, name := range []string{"n1", "n2"} {
		w.must(RegisterKey{Node: nodeID(name), Key: nodeKey(byte(1 + i)), LeasePort: 7403})
	}
	giveKeys(w)
	w.must(RotateKeys{What: KeyOfGossip})
	w.must(OfferKey{What: KeyOfGossip, Node: nodeID("n1"), ID: keyID("gossip", 2)})
	for _, n := range w.state.NodeList() {
		w.tell(n.Name, func(r *KeyReport) { r.Gossip = append(r.Gossip, keyID("gossip", 2)) })
	}
	return w.state
}

// TestRandomCommands: any commands, in any order, keep the invariants; and the test has
// seen each kind of command both done and refused.
func TestRandomCommands(t *testing.T) {
	done, refused := map[string]int{}, map[string]int{}
	stages := []*State{doored(t), rightful(t), checkedStage(t), newest(t), modern(t)}
	everySeen := func() bool { return len(done) >= len(everyKind)-1 && len(refused) == len(everyKind) }
	for round := 0; round == 0 || round < 20 && !everySeen(); round++ {
		rapid.Check(t, func(t *rapid.T) {
			r := replica{state: rapid.SampledFrom(stages).Draw(t, "stage"), at: epoch0}
			for range rapid.IntRange(10, 80).Draw(t, "steps") {
				c, res := r.step(t)
				if res.Refusal != nil {
					refused[c.Kind]++
				} else {
					done[c.Kind]++
				}
			}
		})
	}
	for _, kind := range everyKind {
		if done[kind] == 0 && kind != "init-cluster" {
			t.Errorf("%s was never done", kind)
		}
		if refused[kind] == 0 {
			t.Errorf("%s was never refused", kind)
		}
	}
	t.Logf("done %v", done)
	t.Logf("refused %v", refused)
}

// TestReplicasAgree: the same log gives the same bytes on another replica, and on one that
// was restored from a snapshot on the way.
func TestReplicasAgree(t *testing.T) {
	for name, first := range map[string]*State{"level 1": stage(t), "level 2": modern(t), "level 3": newest(t), "level 4": doored(t), "level 4, rights": rightful(t), "level 4, checks": checkedStage(t)} {
		t.Run(name, func(t *testing.T) { replicasAgree(t, first) })
	}
}

func replicasAgree(t *testing.T, first *State) {
	rapid.Check(t, func(t *rapid.T) {
		r := replica{state: first, at: epoch0}
		steps := rapid.IntRange(1, 40).Draw(t, "steps")
		restoreAt := rapid.IntRange(0, steps-1).Draw(t, "restore")
		var image []byte
		for i := range steps {
			if i == restoreAt {
				image = snapshotOf(t, r.state)
			}
			r.step(t)
		}
		want := snapshotOf(t, r.state)
		if !bytes.Equal(snapshotOf(t, reapply(t, first, r.log)), want) {
			t.Fatal("two replicas diverge")
		}
		restored, err := ReadSnapshot(bytes.NewReader(image))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(snapshotOf(t, restored), image) {
			t.Fatal("a snapshot, read and written, has other bytes")
		}
		if !bytes.Equal(snapshotOf(t, reapply(t, restored, r.log[restoreAt:])), want) {
			t.Fatalf("a replica restored before step %d diverges", restoreAt)
		}
	})
}

func reapply(t *rapid.T, s *State, log [][]byte) *State {
	for _, entry := range log {
		c, err := DecodeCommand(entry)
		if err != nil {
			t.Fatal(err)
		}
		if s, _, err = ApplyEntry(s, s.Index+1, 1, c); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestForksDoNotTouch: two commands on one state give two states that share nothing that
// either writes to.
func TestForksDoNotTouch(t *testing.T) {
	first := newest(t)
	rapid.Check(t, func(t *rapid.T) {
		r := replica{state: first, at: epoch0}
		for range rapid.IntRange(0, 10).Draw(t, "steps") {
			r.step(t)
		}
		left, right := r, r
		left.step(t)
		image := snapshotOf(t, left.state)
		for range 3 {
			right.step(t)
		}
		if !bytes.Equal(snapshotOf(t, left.state), image) {
			t.Fatal("a command on one branch changed the other")
		}
	})
}

// TestArbitraryBodies: whatever JSON stands in a command, Apply answers. It does not
// panic, and the invariants hold.
func TestArbitraryBodies(t *testing.T) {
	first := newest(t)
	read := 0
	rapid.Check(t, func(t *rapid.T) {
		s := first
		for range rapid.IntRange(1, 20).Draw(t, "bodies") {
			s = applyArbitrary(t, s, &read)
		}
	})
	if read == 0 {
		t.Error("no body could be read: the test has tried nothing")
	}
}

func applyArbitrary(t *rapid.T, s *State, read *int) *State {
	body := chooser{t: t, s: s, at: epoch0}.body()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		t.Fatal(err)
	}
	if raw, err = json.Marshal(mangle(t, tree)); err != nil {
		t.Fatal(err)
	}
	at := rapid.SampledFrom([]int64{epoch0, 0, -1, math.MinInt64, math.MaxInt64}).Draw(t, "at")
	next, _, err := Apply(s, s.Index+1, Command{Kind: body.kind(), At: at, Body: raw})
	switch {
	case err == nil:
		*read++
	case next != s || !errors.Is(err, ErrCommandCorrupt):
		t.Fatalf("%s %s: %v", body.kind(), raw, err)
	}
	if err := checkInvariants(next); err != nil {
		t.Fatalf("%s %s\n%v", body.kind(), raw, err)
	}
	return next
}

// mangle replaces parts of a JSON value by others.
func mangle(t *rapid.T, v any) any {
	if rapid.IntRange(1, 6).Draw(t, "mangle") == 6 {
		return rapid.SampledFrom([]any{
			nil, true, 0, -1, 1, 64, math.MaxInt64, 1e300, "", "n1", "n-n1", "n1/eth0", "10.0.0.9", "10.0.0.0/24", "\x00", "\ufffd",
			strings.Repeat("é", 200), []any{}, []any{nil}, []any{"n1"}, map[string]any{}, map[string]any{"n1": 1}, map[string]any{"ip": "x"},
		}).Draw(t, "by")
	}
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			v[key] = mangle(t, v[key])
		}
	case []any:
		for i := range v {
			v[i] = mangle(t, v[i])
		}
	}
	return v
}
