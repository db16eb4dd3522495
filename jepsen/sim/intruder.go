package sim

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/jepsen/forge"
)

// What somebody does who is none of the voters: he has the key of one node, the key of gossip, or no
// key and a place on the path.

const (
	forgeEvery   = 50 * time.Millisecond // with all kinds of words to all nodes each time, it is most of the work already
	forgeNumbers = 4                     // questions of a leader that are guessed at one time
	capturedMax  = 64
)

// nodeKey is the key of a node, the same in each play. Nothing is sealed with it: the network
// knows who sends.
func nodeKey(node string) fsm.NodeKey {
	sum := sha256.Sum256([]byte(node))
	secret, err := ecdh.P256().NewPrivateKey(sum[:])
	if err != nil {
		panic(err) // a hash above the order of the group: 2^-32
	}
	return fsm.NodeKey{Certificate: hex.EncodeToString(sum[:]), Public: base64.StdEncoding.EncodeToString(secret.PublicKey().Bytes())}
}

// forge has an intruder with the key of a host's node, or with gossip's, say whatever helps him in
// the names of all.
func (w *World) forge(name, last string) {
	h := w.named(name)
	stop := make(chan struct{})
	w.fault(last, func() {
		w.wg.Go(func() {
			tick := time.NewTicker(forgeEvery)
			defer tick.Stop()
			for n := uint64(1); ; n++ {
				select {
				case <-stop:
					return
				case <-w.broken:
					return
				case <-tick.C:
					w.forgeOnce(h, n)
				}
			}
		})
	}, func() { close(stop) })
}

// forgeOnce says everything once, to everybody.
func (w *World) forgeOnce(h *host, n uint64) {
	lead := w.leader()
	if lead == nil {
		return
	}
	w.mu.Lock()
	key := h.node
	w.stats.Forged++
	w.mu.Unlock()
	node := lead.raft.Load()
	s := node.State()
	term, leads := node.Leading()
	if !leads || key == "" {
		return
	}
	voters := uint64(port{node, lead}.VoterSet().ID)
	for _, to := range w.hosts {
		p := w.process(to)
		if p == nil {
			continue
		}
		for _, version := range []byte{forge.Sealed, forge.ByGossip} {
			for _, b := range forgeries(version, s, key, lead.node, term, n, voters) {
				to.arrived(parcel{from: key, sealed: version == forge.Sealed, b: b})
			}
		}
	}
}

// forgeries are words in the names of the nodes that have the right to them, but for the one whose key is used:
// what that says of itself is its own word.
func forgeries(version byte, s *fsm.State, key, leader string, term, n, voters uint64) [][]byte {
	var out [][]byte
	for _, v := range s.HAVIPList() {
		for _, c := range v.Claims() {
			if c.Node == key {
				continue
			}
			failure := []string{"", "forged"}[n%2]
			out = append(out, forge.Released(version, c.Node, v.ID, uint64(c.Epoch), c.Session, failure), forge.Ready(version, c.Node, v.ID, uint64(c.Epoch), c.Session))
		}
	}
	for _, sess := range s.SessionList() {
		about := forge.Session{Node: sess.Node, Number: sess.Number}
		for _, voter := range s.NodeList() {
			if voter.ID == key {
				continue
			}
			out = append(out, forge.Hint(version, voter.ID, about))
			for i := range uint64(forgeNumbers) {
				out = append(out, forge.Endorsement(version, voter.ID, leader, term, n/forgeNumbers+i, about, voters))
			}
		}
	}
	return out
}

// replay has somebody on the path from one host to another send again, in their order, what renewals he has
// seen there, as if no window remembered them.
func (w *World) replay(from, to, last string) {
	d := pair(from, to)
	stop := make(chan struct{})
	w.fault(last, func() {
		w.wg.Go(func() {
			tick := time.NewTicker(w.sched.Lease / 10)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-w.broken:
					return
				case <-tick.C:
				}
				w.mu.Lock()
				seen := w.net.captured[d]
				w.stats.Replayed++
				w.mu.Unlock()
				if len(seen) > 0 {
					w.hosts[d.to].arrived(seen[i%len(seen)])
				}
			}
		})
	}, func() { close(stop) })
}

// capture keeps a renewal that somebody on the path has seen; with the world's lock held.
func (n *network) capture(from, to int, p parcel) {
	d := direction{from, to}
	p.b = bytes.Clone(p.b)
	if n.captured[d] = append(n.captured[d], p); len(n.captured[d]) > capturedMax {
		n.captured[d] = n.captured[d][1:]
	}
}
