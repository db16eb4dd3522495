package failover

import (
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
	"havip-cluster/testbed/labtest"
)

// A world is a cluster of real Members in the virtual time of a bubble. The log is one list
// of states from which each host sees a prefix; the post loses, delays and repeats; an edge
// is a kernel in memory, whose fence compares the host's own clock with the deadline, with
// or without a process.
type world struct {
	t       *testing.T
	planted bool
	version string // of the programs
	start   time.Time
	hosts   []*host
	wg      sync.WaitGroup

	mu        sync.Mutex // never held across a send or a sleep
	rng       *rand.Rand
	states    []*fsm.State
	leader    string
	term      uint64
	cut       map[[2]string]bool // from, to
	loss, dup int                // per cent of datagrams
	packets   map[wire.Kind]int
	unsaid    func(b []byte) bool // datagrams that are lost, whatever loss is; nil: none
	unsent    map[string]bool     // HAVIPs that the cloud sends nowhere
	messages  []messageCount      // of datagrams about claims, in the order of sending
	violation string
	unpaired  string            // an Acquired or a Released too many
	spans     map[string][]span // by HAVIP id: who answered, without a break
	stop      chan struct{}
}

// span is a time in which one host answered for a HAVIP, or nobody did.
type span struct {
	who         string
	began, last time.Duration
}

const (
	worldTrip     = 300 * time.Microsecond
	worldCommit   = time.Millisecond
	worldLease    = 500 * time.Millisecond
	worldElection = 600 * time.Millisecond
	worldTick     = time.Millisecond // between two looks at who answers
)

var errWorld = errors.New("no way there")

// runWorld runs a test in a world of voters A, B, ... and then agents, which vote nothing. At
// the end everything is shut down, and nobody may ever have had a second owner beside him.
func runWorld(t *testing.T, voters, agents int, body func(w *world)) {
	t.Helper()
	if v := playWorld(t, voters, agents, false, body); v != "" {
		t.Error(v)
	}
}

// runOldWorld is runWorld with programs that say nothing of the commands they read, as those of
// level 1 do.
func runOldWorld(t *testing.T, voters, agents int, body func(w *world)) {
	t.Helper()
	if v := playWorldOf(t, "", voters, agents, false, body); v != "" {
		t.Error(v)
	}
}

// playWorld returns what went wrong. With planted, a bug is planted on purpose, and what
// never comes to pass is a violation too, not the end of the test.
func playWorld(t *testing.T, voters, agents int, planted bool, body func(w *world)) (violation string) {
	return playWorldOf(t, fsm.VersionWithLevel("world"), voters, agents, planted, body)
}

func playWorldOf(t *testing.T, version string, voters, agents int, planted bool, body func(w *world)) (violation string) {
	labtest.Bubble(t, func(t *testing.T) {
		seed := worldSeed(t)
		w := &world{
			t: t, planted: planted, version: version, start: time.Now(), rng: rand.New(rand.NewPCG(seed, seed)), states: []*fsm.State{fsm.New()}, term: 1,
			cut: map[[2]string]bool{}, packets: map[wire.Kind]int{}, spans: map[string][]span{}, stop: make(chan struct{}),
		}
		for i := range voters + agents {
			w.addHost(i, i < voters)
		}
		w.introduce()
		w.leader = "A"
		w.wg.Go(w.watchAnswers)
		defer func() {
			w.close()
			if w.unpaired != "" && !planted {
				t.Errorf("HAVIP_WORLD_SEED=%d: %s", seed, w.unpaired)
			}
			if w.violation != "" {
				violation = fmt.Sprintf("HAVIP_WORLD_SEED=%d: %s", seed, w.violation)
			}
			if w.packets[wire.KindRenewal] == 0 || w.packets[wire.KindAck] == 0 {
				t.Errorf("the world is wedged: %v", w.packets)
			}
		}()
		body(w)
	})
	return violation
}

// worldSeed is HAVIP_WORLD_SEED, or 1.
func worldSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("HAVIP_WORLD_SEED")
	if text == "" {
		return 1
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("HAVIP_WORLD_SEED: %v", err)
	}
	return n
}

// close ends everything that runs in the bubble.
func (w *world) close() {
	for _, h := range w.hosts {
		h.end()
	}
	close(w.stop)
	w.wg.Wait()
	time.Sleep(time.Second) // what is still under way arrives nowhere
	synctest.Wait()
}

func (w *world) addHost(i int, voter bool) {
	id := string(rune('A' + i))
	n := fsm.Node{
		ID: id, Name: strings.ToLower(id), Address: fmt.Sprintf("192.0.2.%d", i+1),
		APIPort: 1, RaftPort: 2, GossipPort: 3, Role: fsm.RoleAgent, KeyHash: id,
		Version: w.version,
	}
	if voter {
		n.Role = fsm.RoleVoter
	}
	if i == 0 {
		w.commit(fsm.InitCluster{ID: "c-1", Profile: "lan", Lease: worldLease, Node: n})
	} else {
		w.commit(fsm.CreateToken{Token: fsm.Token{ID: id, SecretHash: "s", Node: n.Name, Role: n.Role, Expires: 1 << 62}})
		w.commit(fsm.AddNode{Token: id, SecretHash: "s", Node: n})
	}
	w.hosts = append(w.hosts, &host{
		w: w, node: n, lag: 200 * time.Microsecond, watchers: map[chan struct{}]bool{}, kernel: map[string]map[string]bool{},
		links: make(chan struct{}, 1), fails: map[string]bool{}, calls: map[string]int{},
	})
}

// introduce gives each host a key, if all programs have come so far.
func (w *world) introduce() {
	if w.head().Level() < 4 {
		return
	}
	for _, h := range w.hosts {
		if res := w.commit(fsm.RegisterKey{Node: h.node.ID, Key: worldKey(h.node.ID), LeasePort: 4}); res.Refusal != nil {
			panic(res.Refusal)
		}
	}
}

// worldKey is the key of a node, the same in each run. Nothing is sealed with it: the world's
// post knows who sends.
func worldKey(node string) fsm.NodeKey {
	sum := sha256.Sum256([]byte(node))
	secret, err := ecdh.P256().NewPrivateKey(sum[:])
	if err != nil {
		panic(err)
	}
	return fsm.NodeKey{Certificate: hex.EncodeToString(sum[:]), Public: base64.StdEncoding.EncodeToString(secret.PublicKey().Bytes())}
}

func (w *world) host(id string) *host {
	return w.hosts[int(id[0]-'A')]
}

// commit appends to the log, at this instant.
func (w *world) commit(body fsm.Body) fsm.Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := fsm.NewCommand(time.Now().UnixNano(), w.leader, "", body)
	if err != nil {
		panic(err)
	}
	next, res, err := fsm.Apply(w.states[len(w.states)-1], uint64(len(w.states)), c)
	if err != nil {
		panic(err)
	}
	w.states = append(w.states, next)
	return res
}

// head is the newest committed state.
func (w *world) head() *fsm.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.states[len(w.states)-1]
}

func (w *world) reaches(from, to string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return from == to || !w.cut[[2]string{from, to}]
}

// split cuts both ways between two sides; heal ends every cut.
func (w *world) split(side ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.hosts {
		for _, b := range w.hosts {
			if slices.Contains(side, a.node.ID) != slices.Contains(side, b.node.ID) {
				w.cut[[2]string{a.node.ID, b.node.ID}] = true
			}
		}
	}
}

func (w *world) heal() {
	w.mu.Lock()
	clear(w.cut)
	n := len(w.states)
	w.mu.Unlock()
	for _, h := range w.hosts {
		h.applyLater(n - 1)
	}
}

// elect makes another host the leader. The one before does not hear of it when cut off.
func (w *world) elect(id string) {
	w.mu.Lock()
	w.leader = id
	w.term++
	w.mu.Unlock()
	for _, h := range w.hosts {
		h.wake()
	}
}

// propose is what Raft does for a leader.
func (w *world) propose(ctx context.Context, h *host, term uint64, body fsm.Body) (fsm.Result, error) {
	reached := 0
	for _, voter := range w.voterSet().Voters {
		if w.reaches(h.node.ID, voter) && w.reaches(voter, h.node.ID) {
			reached++
		}
	}
	if reached < w.voterSet().Majority() {
		<-ctx.Done()
		return fsm.Result{}, ctx.Err()
	}
	time.Sleep(worldCommit)
	if now, leads := h.Leading(); !leads || term != 0 && now != term {
		return fsm.Result{}, errWorld
	}
	res := w.commit(body)
	n := int(res.Index)
	h.applyTo(n) // the proposer sees its entry before it hears the result
	for _, other := range w.hosts {
		if w.reaches(h.node.ID, other.node.ID) {
			other.applyLater(n)
		}
	}
	return res, nil
}

func (w *world) voterSet() lease.VoterSet {
	var ids []string
	for _, h := range w.hosts {
		if h.node.Role != fsm.RoleAgent {
			ids = append(ids, h.node.ID)
		}
	}
	set := lease.NewVoterSet(ids)
	set.Index = 1
	return set
}

// do is an operator's command, through whoever leads.
func (w *world) do(body fsm.Body) fsm.Result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	w.mu.Lock()
	leader := w.leader
	w.mu.Unlock()
	res, err := w.propose(ctx, w.host(leader), 0, body)
	if err != nil || res.Refusal != nil {
		w.t.Fatalf("%T: %v %v", body, err, res.Refusal)
	}
	return res
}

// havip makes a HAVIP and waits until somebody answers.
func (w *world) havip(name string, last byte) string {
	w.await("every ENI is reported", 3*time.Second, func() bool {
		for _, h := range w.hosts {
			_, known := w.head().ENIs[h.node.Name+"/eth1"]
			if !known && h.node.Role != fsm.RoleWitness && h.running() {
				return false
			}
		}
		return true
	})
	id := w.do(fsm.CreateHAVIP{Name: name, IP: netip.AddrFrom4([4]byte{10, 0, 0, last})}).Object
	w.await(name+" is answered", 3*time.Second, func() bool { return w.who(id) != "" })
	return id
}

func (w *world) await(what string, limit time.Duration, ok func() bool) time.Duration {
	w.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > limit && w.planted {
			w.fault("after %v it is still not so that %s", limit, what)
			return limit
		}
		if time.Since(began) > limit {
			w.t.Fatalf("after %v it is still not so that %s\n%s", limit, what, w.describe())
		}
		time.Sleep(worldTick)
	}
	return time.Since(began)
}

func (w *world) describe() string {
	var out strings.Builder
	s := w.head()
	for _, v := range s.HAVIPList() {
		fmt.Fprintf(&out, "%s owner %+v draining %+v, answered by %q\n", v.Name, v.Owner, v.Draining, w.who(v.ID))
	}
	fmt.Fprintf(&out, "sessions %+v\n", s.SessionList())
	for i := max(0, len(s.Events)-15); i < len(s.Events); i++ {
		fmt.Fprintf(&out, "%v %s\n", time.Duration(s.Events[i].At-w.start.UnixNano()), s.Events[i].Text)
	}
	return out.String()
}

// who answers for a HAVIP now, "" for nobody.
func (w *world) who(havip string) string {
	var who []string
	for _, h := range w.hosts {
		if h.answers(havip) {
			who = append(who, h.node.ID)
		}
	}
	return strings.Join(who, "+")
}

// look notes who answers for everything, and whether it is more than one.
func (w *world) observe() {
	ids := map[string]bool{}
	for _, h := range w.hosts {
		for id := range h.held() {
			ids[id] = true
		}
	}
	now := time.Since(w.start)
	w.mu.Lock()
	for id := range w.spans {
		ids[id] = true
	}
	w.mu.Unlock()
	for id := range ids {
		who := w.who(id)
		w.mu.Lock()
		if strings.Contains(who, "+") && w.violation == "" {
			w.violation = fmt.Sprintf("at %v %s answer for %s", now, who, id)
		}
		list := w.spans[id]
		if n := len(list); n > 0 && list[n-1].who == who {
			list[n-1].last = now
		} else {
			w.spans[id] = append(list, span{who, now, now})
		}
		w.mu.Unlock()
	}
}

func (w *world) watchAnswers() {
	for {
		select {
		case <-w.stop:
			return
		case <-time.After(worldTick):
			w.observe()
		}
	}
}

// gap is the longest time without an answer since an instant.
func (w *world) gap(havip string, since time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	longest := time.Duration(0)
	for i, s := range w.spans[havip] {
		if s.who != "" || s.last < since {
			continue
		}
		end := s.last
		if i+1 < len(w.spans[havip]) {
			end = w.spans[havip][i+1].began
		}
		longest = max(longest, end-s.began)
	}
	return longest
}

func (w *world) now() time.Duration { return time.Since(w.start) }

// boot starts the process of each host, and lets them elect a leader.
func (w *world) boot() {
	w.elect("")
	for _, h := range w.hosts {
		h.boot()
	}
	time.Sleep(worldElection)
	w.elect("A")
}
