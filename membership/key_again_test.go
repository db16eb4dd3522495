package membership

import (
	"slices"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// deafen stops the key rotator of a peer that goes on running, so that rotations wait for it.
func (k *keyed) deafen(p *peer) {
	k.stop[p]()
	delete(k.stop, p)
}

// offered waits for the new key of a rotation that began at an index of the log or later, and
// fails when it is one of before.
func (k *keyed) offered(what string, begun uint64, before []string) string {
	k.t.Helper()
	var id string
	eventually(k.t, "a new key of "+what, func() bool {
		r := k.leader().node.State().Cluster.Keys.Rotation(what)
		id = r.New
		return r.Phase == fsm.PhaseSpread && r.Begun >= begun
	})
	if slices.Contains(before, id) {
		k.t.Fatalf("the new key of %s is %.16s, one of before", what, id)
	}
	return id
}

// A rotation that is asked for while its new key spreads, or is used already, brings a key that
// nobody ever had: whoever was removed, or stole something, may know those of before.
func TestANewKeyIsNoneOfBefore(t *testing.T) {
	t.Parallel()
	k := startKeyed(t, 3)
	slow := k.newcomer("node-4", identity.RoleAgent)
	k.settled("the agent has reported")
	keys := k.leader().node.State().Cluster.Keys
	k.deafen(slow)
	for what, first := range map[string]string{fsm.KeyOfCA: keys.Issuer, fsm.KeyOfGossip: keys.GossipUse} {
		seen := []string{first}
		next := func(begun uint64) { seen = append(seen, k.offered(what, begun, seen)) }
		next(k.do(fsm.RotateKeys{What: what}).Index)
		next(k.do(fsm.RotateKeys{What: what}).Index) // the one before is in no use yet, and given up
		advance := func(phase string) fsm.Result {
			k.phase(what, phase, "node-4")
			return k.do(fsm.AdvanceKeys{What: what, Phase: phase, New: seen[len(seen)-1], Force: true})
		}
		advance(fsm.PhaseSpread)
		k.phase(what, fsm.PhaseUse, "node-4")
		k.do(fsm.RotateKeys{What: what}) // it is in use: another one follows
		next(advance(fsm.PhaseUse).Index)
	}
	eventually(t, "nobody has the keys of before", func() bool {
		return !slices.ContainsFunc(k.all()[:3], func(p *peer) bool {
			return slices.Contains(p.id.HeldIDs(), keys.Issuer) || slices.Contains(p.id.GossipIDs(), keys.GossipUse)
		})
	})
}

// A node that starts on its own knows the keys of its last snapshot until it hears of more. It
// erases nothing by that: all holders may start at once, after a power cut.
func TestAKeyOutlivesAnOldSnapshot(t *testing.T) {
	t.Parallel()
	k := startKeyed(t, 3)
	for _, p := range k.all() {
		check(t, p.node.raft.Snapshot().Error())
	}
	for _, what := range []string{fsm.KeyOfCA, fsm.KeyOfGossip} {
		k.do(fsm.RotateKeys{What: what})
	}
	k.settled("the keys are replaced")
	keys, all := k.leader().node.State().Cluster.Keys, k.all()
	for _, p := range all {
		k.down(p)
	}
	alone := all[0]
	alone.id = must[*identity.Identity](t)(identity.Load(alone.id.Dir))
	k.add(alone.open())
	k.keep(alone)
	throughout(t, time.Second, "it has the keys in use", func() bool {
		return slices.Contains(alone.id.HeldIDs(), keys.Issuer) && slices.Contains(alone.id.GossipIDs(), keys.GossipUse)
	})
	for _, p := range all[1:] {
		k.up(p)
	}
	k.settled("they go on")
	if now := k.leader().node.State().Cluster.Keys; now.Issuer != keys.Issuer || now.GossipUse != keys.GossipUse {
		t.Error("the keys are others")
	}
}
