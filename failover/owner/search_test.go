package owner

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
)

// The hand-off rules 6 and 7 under random histories of lagging replicas, lost, repeated
// and late words, crashes, failures and changes of mind. HAVIP_HANDOFF_HISTORIES and
// HAVIP_HANDOFF_SEED set the size of the search and where it begins.
const (
	searchHistories = 1500
	searchSeed      = 1
	searchActions   = 400 // per history
	searchTraceMax  = 120 // lines of a replay
)

func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func TestHandoffSearch(t *testing.T) {
	seed := setting(t, "HAVIP_HANDOFF_SEED", searchSeed)
	histories := setting(t, "HAVIP_HANDOFF_HISTORIES", searchHistories)
	if testing.Short() {
		histories = min(histories, searchHistories/10)
	}
	t.Logf("HAVIP_HANDOFF_SEED=%d, %d histories", seed, histories)
	began := time.Now()
	var total stageStats
	for i := range histories {
		h := newHistory(seed + i)
		if bad := h.run(); bad != "" {
			t.Fatal(replayHistory(seed + i))
		}
		total.add(h.stats)
	}
	t.Logf("%+v in %v", total, time.Since(began).Round(time.Millisecond))
	if histories >= searchHistories/10 {
		total.mustAllHaveHappened(t)
	}
}

// replayHistory runs a history again and tells what happened.
func replayHistory(seed uint64) string {
	h := newHistory(seed)
	var lines []string
	h.trace = func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	bad := h.run()
	return fmt.Sprintf("HAVIP_HANDOFF_SEED=%d HAVIP_HANDOFF_HISTORIES=1: %s\n%s", seed, bad,
		strings.Join(lines[max(0, len(lines)-searchTraceMax):], "\n"))
}

func TestHandoffSearchReplays(t *testing.T) {
	if a, b := replayHistory(searchSeed), replayHistory(searchSeed); a != b {
		t.Errorf("one seed, two histories:\n%s\n\n%s", a, b)
	}
}

func (st *stageStats) add(more stageStats) {
	sum, v := reflect.ValueOf(st).Elem(), reflect.ValueOf(more)
	for i := range v.NumField() {
		sum.Field(i).SetInt(sum.Field(i).Int() + v.Field(i).Int())
	}
}

// mustAllHaveHappened: a search in which something never happens proves nothing about it.
func (st *stageStats) mustAllHaveHappened(t *testing.T) {
	t.Helper()
	v := reflect.ValueOf(*st)
	for i := range v.NumField() {
		if v.Field(i).Int() == 0 {
			t.Errorf("%s never happened", v.Type().Field(i).Name)
		}
	}
}

// history is one random course of events on a stage.
type history struct {
	*stage
	rng     *rand.Rand
	names   int      // HAVIPs made so far
	dead    []uint64 // sessions whose node has stopped, open in the log
	upBad   int      // per cent of activations that fail
	downBad int      // per cent of deactivations that fail
	recalls bool     // a leader asks for claims, too: in each third history
}

func newHistory(seed uint64) *history {
	rng := rand.New(rand.NewPCG(seed, seed))
	h := &history{stage: newStage(2 + rng.IntN(3)), rng: rng, names: 2, upBad: rng.IntN(20), downBad: rng.IntN(30), recalls: seed%3 == 0}
	for _, n := range h.nodes {
		n.upFails = func(string) bool { return h.percent(h.upBad) }
		n.downFails = func(string) bool { return h.percent(h.downBad) }
	}
	return h
}

func (h *history) percent(p int) bool { return h.rng.IntN(100) < p }

func pick[T any](h *history, from []T) T { return from[h.rng.IntN(len(from))] }

// run plays faults and then demands service. It returns what went wrong.
func (h *history) run() string {
	h.stats = stageStats{} // the set-up does not count
	actions := []struct {
		weight int
		do     func()
	}{
		{10, h.move}, {40, h.apply}, {40, h.turn}, {60, h.carryOut}, {40, h.word},
		{1, h.crash}, {3, h.close}, {8, h.reopen}, {2, h.giveUp}, {2, h.enable}, {1, h.remove}, {2, h.ghost}, {4, h.wait},
	}
	if h.recalls {
		actions = append(actions, struct {
			weight int
			do     func()
		}{10, h.recall})
	}
	sum := 0
	for _, a := range actions {
		sum += a.weight
	}
	for range searchActions {
		n := h.rng.IntN(sum)
		for _, a := range actions {
			if n -= a.weight; n < 0 {
				a.do()
				break
			}
		}
		if h.check(); h.violation != "" {
			return h.violation
		}
	}
	return h.settle()
}

func (h *history) actor() *actor { return pick(h, h.nodes) }

func (h *history) havip() string {
	list := h.head().HAVIPList()
	if len(list) == 0 {
		return h.create()
	}
	return pick(h, list).ID
}

func (h *history) create() string {
	h.names++
	ip := netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + h.names%100)})
	return h.try(fsm.CreateHAVIP{Name: fmt.Sprintf("v%d", h.names), IP: ip}).Object
}

// move is the leader's decision, for good reasons or for none.
func (h *history) move() {
	v := h.head().HAVIPs[h.havip()]
	if v.Disabled {
		return
	}
	eni := ""
	if !h.percent(5) {
		eni = pick(h, h.head().ENIList()).ID
	}
	if v.Owner != nil && v.Owner.ENI == eni {
		return
	}
	if v.Owner != nil && !h.answered(v.ID, v.Owner.ENI) {
		h.stats.Replaced++ // before it activated
	}
	h.try(h.place(v.ID, eni))
}

func (h *history) answered(havip, eni string) bool {
	for _, n := range h.nodes {
		if n.answers[answer{havip, eni}] {
			return true
		}
	}
	return false
}

func (h *history) apply() {
	n := h.actor()
	behind := len(h.states) - 1 - n.applied
	if behind == 0 {
		return
	}
	n.see(n.applied + 1 + h.rng.IntN(behind))
}

func (h *history) turn() { h.actor().decide() }

func (h *history) carryOut() {
	n := h.actor()
	if len(n.steps) > 0 && h.percent(50) {
		n.step()
		return
	}
	for len(n.steps) > 0 {
		n.step()
		h.check()
	}
}

// word delivers, loses or repeats any word under way.
func (h *history) word() {
	if len(h.heap) == 0 {
		return
	}
	i := h.rng.IntN(len(h.heap))
	m := h.heap[i]
	if i > 0 {
		h.stats.Late++
	}
	lost := h.percent(15)
	repeated := !lost && h.percent(15)
	switch {
	case lost:
		h.stats.Lost++
	case repeated:
		h.stats.Repeated++
		h.deliver(m)
		return // it stays under way
	default:
		h.deliver(m)
	}
	h.heap = slices.Delete(h.heap, i, i+1)
}

func (h *history) crash() {
	n := h.actor()
	if n.session == 0 {
		return
	}
	h.stats.Crashes++
	if h.head().Nodes[n.id].LastSession == n.session {
		h.dead = append(h.dead, n.session)
	}
	n.crash()
}

// close is the leader's verdict on a session whose node has stopped, with a new place for
// some of what it had in the same entry.
func (h *history) close() {
	if len(h.dead) == 0 {
		return
	}
	i := h.rng.IntN(len(h.dead))
	session := h.dead[i]
	h.dead = slices.Delete(h.dead, i, i+1)
	body := fsm.CloseSession{Session: session}
	for _, v := range h.head().Claimed(session) {
		if h.percent(70) {
			body.Place = append(body.Place, h.place(v.ID, pick(h, h.head().ENIList()).ID).Assignments...)
		}
	}
	if h.try(body).Refusal == nil {
		h.stats.Closed++
	}
}

func (h *history) reopen() {
	n := h.actor()
	if n.session != 0 {
		return
	}
	h.stats.Reopened++
	h.dead = slices.DeleteFunc(h.dead, func(s uint64) bool { return s == h.head().Nodes[n.id].LastSession })
	n.open()
}

func (h *history) giveUp() { h.actor().giveUp(h.havip()) }

func (h *history) enable() {
	v := h.head().HAVIPs[h.havip()]
	enabled := v.Disabled || h.percent(40)
	if !enabled {
		h.stats.Disabled++
	}
	h.try(fsm.UpdateHAVIP{ID: v.ID, Change: fsm.Change{Enabled: &enabled}})
}

func (h *history) remove() {
	h.stats.Deleted++
	h.try(fsm.DeleteHAVIP{ID: h.havip(), Force: true})
	h.create()
}

// ghost is a word with a true epoch and a session that never held it, as the history that a
// recovery cut off may leave behind.
func (h *history) ghost() {
	v := h.head().HAVIPs[h.havip()]
	if v.Epoch == 0 {
		return
	}
	h.stats.Ghosts++
	epoch := v.Epoch - fsm.Epoch(h.rng.Uint64N(min(3, uint64(v.Epoch))))
	h.heap = append(h.heap, word{from: "?", to: h.actor().id, havip: v.ID, epoch: epoch, session: 1 << 40})
}

// recall is a leader that asks a node about its claims.
func (h *history) recall() {
	n := h.actor()
	if n.handoff == nil || len(n.steps) > 0 { // between two turns
		return
	}
	for _, v := range h.head().Claimed(n.session) {
		for _, c := range v.Claims() {
			if c.Session == n.session && n.handoff.Recalled(n.state(), v.ID, c.Epoch, c.Session) {
				h.stats.Recalled++
				n.say(Step{Kind: StepReleased, HAVIP: v.ID, Claim: c}, "")
			}
		}
	}
}

func (h *history) wait() { h.now = h.now.Add(time.Duration(h.rng.Int64N(int64(stagePatience)))) }

// settle ends the faults and demands service: everything placed is answered by exactly
// its owner, and nothing is left draining.
func (h *history) settle() string {
	h.upBad, h.downBad = 0, 0
	for _, n := range h.nodes {
		if n.session == 0 {
			n.open()
		}
	}
	h.dead = nil
	for range 20 {
		h.now = h.now.Add(10 * time.Millisecond)
		for _, n := range h.nodes {
			n.see(len(h.states) - 1)
			n.decide()
			for len(n.steps) > 0 {
				n.step()
				h.check()
			}
		}
		words := h.heap
		h.heap = nil
		for _, m := range words {
			h.deliver(m)
		}
		if h.check(); h.violation != "" {
			return h.violation
		}
	}
	return h.unsettled()
}

func (h *history) unsettled() string {
	served := 0
	for _, v := range h.head().HAVIPList() {
		switch {
		case len(v.Draining) > 0:
			return fmt.Sprintf("%s waits for ever for %+v", v.Name, v.Draining)
		case v.Deleting:
			return v.Name + " is never deleted"
		case v.Owner == nil:
			continue
		case !h.answered(v.ID, v.Owner.ENI):
			return fmt.Sprintf("%s is never answered by its owner %+v", v.Name, *v.Owner)
		}
		served++
	}
	for _, n := range h.nodes {
		served -= len(n.answers)
	}
	if served != 0 {
		return "somebody answers for what nobody owns"
	}
	return ""
}
