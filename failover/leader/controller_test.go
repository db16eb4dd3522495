package leader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// ownLog is a log of one: what its leader proposes is applied at once, through the encoding.
type ownLog struct {
	*sized
	proposed []fsm.Body
	refuse   *fsm.Refusal // of every command of a kind, instead of doing it
	kind     string       // that kind; "": Place
	elected  uint64       // elections after the first
	lose     string       // the kind of the next proposal that is lost, nobody knows how; "": none
}

func (l *ownLog) State() *fsm.State                { return l.state }
func (l *ownLog) Watch() (<-chan struct{}, func()) { return nil, func() {} }
func (l *ownLog) VoterSet() lease.VoterSet {
	return lease.NewVoterSet([]string{"n-n1", "n-n2", "n-n3"})
}
func (l *ownLog) Leading() (uint64, bool) { return 1 + l.elected, true }
func (l *ownLog) LeaderID() string        { return "n-n3" }
func (l *ownLog) CaughtUp() bool          { return true }
func (l *ownLog) Applied() uint64         { return l.state.Index }

func (l *ownLog) Propose(_ context.Context, term uint64, key string, body fsm.Body) (fsm.Result, error) {
	l.proposed = append(l.proposed, body)
	if l.refuse != nil && fmt.Sprintf("%T", body) == "fsm."+cmp.Or(l.kind, "Place") {
		return fsm.Result{Refusal: l.refuse}, nil
	}
	if l.lose != "" && fmt.Sprintf("%T", body) == "fsm."+l.lose {
		l.lose = ""
		return fsm.Result{}, errors.New("leadership lost while committing log")
	}
	c, err := fsm.NewCommand(l.at, "n-n3", key, body)
	if err != nil {
		return fsm.Result{}, err
	}
	c.Term = term
	raw, err := c.Encode()
	if err != nil {
		return fsm.Result{}, err
	}
	if c, err = fsm.DecodeCommand(raw); err != nil {
		return fsm.Result{}, err
	}
	next, res, err := fsm.ApplyEntry(l.state, l.state.Index+1, term, c)
	l.state = next
	return res, err
}

// kinds are the types of what was proposed since the last call.
func (l *ownLog) kinds() string {
	var out []string
	for _, b := range l.proposed {
		out = append(out, strings.TrimPrefix(fmt.Sprintf("%T", b), "fsm."))
	}
	l.proposed = nil
	return strings.Join(out, " ")
}

// bench is a controller whose time and log a test moves by hand.
type bench struct {
	*ownLog
	c     *Controller
	now   lease.Instant
	voter *ownVoter
}

func newBench(t *testing.T, havips int) *bench { return newBenchWith(t, havips, nil) }

// newBenchWith is newBench with somebody who reads what the controller sends.
func newBenchWith(t *testing.T, havips int, post ports.Post) *bench {
	b := &bench{ownLog: &ownLog{sized: newSized(t, havips)}, now: lease.Instant(time.Hour), voter: &ownVoter{}}
	b.c = New(Config{
		Node: "n-n3", Log: b.ownLog, Voter: b.voter, Clock: func() lease.Instant { return b.now }, Wall: func() int64 { return b.at },
		Mail:   wire.NewMail(wire.Config{Node: "n-n3", Log: b.ownLog, Post: post}, func(wire.Message) {}),
		Logger: slog.New(slog.DiscardHandler),
	})
	return b
}

// ownVoter is a voter that knows of no session but those that are silent.
type ownVoter struct {
	silent map[string]bool // node ids
	asked  int
}

func (v *ownVoter) Heard(s lease.Session) (ago, left time.Duration, known bool) {
	v.asked++
	return 0, 0, v.silent[s.Node]
}

func (b *bench) turn() time.Duration { return b.c.turn(b.t.Context()) }

// pass lets time go by.
func (b *bench) pass(d time.Duration) { b.now, b.at = b.now.Add(d), b.at+int64(d) }

func (b *bench) dies(node string) {
	s := lease.Session{Node: "n-" + node, Number: b.session(node)}
	q := lease.NewInquiry(b.now)
	q.Endorsed()
	b.c.leadership.asking[s] = q
	b.c.timeline.dead(b.now, s.Number, b.now, b.now)
}

// TestSessionsThatEndTogether: one entry closes them all, and none of them gets anything.
func TestSessionsThatEndTogether(t *testing.T) {
	b := newBench(t, 10)
	b.turn()
	if got := b.kinds(); got != "" {
		t.Fatalf("at rest it proposes %s", got)
	}
	b.dies("n2")
	b.dies("n1")
	b.turn()
	if got := b.kinds(); got != "CloseSessions" {
		t.Fatalf("it proposes %s", got)
	}
	for _, v := range b.state.HAVIPList() {
		if v.Owner == nil || v.Owner.ENI != "n3/eth0" {
			t.Fatalf("%s: %+v", v.Name, v.Owner)
		}
	}
	b.turn()
	if got := b.kinds(); got != "" {
		t.Errorf("afterwards it proposes %s", got)
	}
	if open := b.c.timeline.open; len(open) != 10 {
		t.Errorf("%d timelines", len(open))
	}
	for _, v := range b.state.HAVIPList() {
		b.c.take(wire.Message{From: "n-n3", Activated: []wire.ActivatedMessage{{HAVIP: v.ID, Epoch: v.Epoch, Session: v.Owner.Session, Took: time.Millisecond}}})
	}
	b.turn()
	if got := b.kinds(); got != "Confirm" {
		t.Errorf("it proposes %s", got)
	}
	b.pass(stepsWait)
	b.turn()
	if got := b.kinds(); got != "RecordFailovers" || len(b.state.Failovers) != 10 {
		t.Errorf("it proposes %s, %d timelines", got, len(b.state.Failovers))
	}
}

// TestConfirms: the owners' words of a turn are one entry; others' words, old ones and
// repeated ones are none.
func TestConfirms(t *testing.T) {
	b := newBench(t, 6)
	b.turn()
	b.kinds()
	list := b.state.HAVIPList()
	say := func(from string, v fsm.HAVIP, epoch fsm.Epoch) {
		b.c.take(wire.Message{From: from, Activated: []wire.ActivatedMessage{{HAVIP: v.ID, Epoch: epoch, Session: v.Owner.Session}}})
	}
	for _, v := range list[:3] {
		say("n-n1", v, v.Epoch)
		say("n-n1", v, v.Epoch)
	}
	say("n-n1", list[4], list[4].Epoch) // n2 owns it
	say("n-n2", list[5], list[5].Epoch-1)
	b.turn()
	if got := b.kinds(); got != "Confirm" {
		t.Fatalf("it proposes %s", got)
	}
	for i, v := range b.state.HAVIPList() {
		want := fsm.Pending
		if i < 3 {
			want = fsm.Available
		}
		if got := b.state.Serving(v); got != want {
			t.Errorf("%s is %s, want %s", v.Name, got, want)
		}
	}
	for _, v := range list[:3] {
		say("n-n1", v, v.Epoch)
	}
	b.turn()
	if got := b.kinds(); got != "" {
		t.Errorf("what is known already: %s", got)
	}
	// The next leader has heard nothing, and takes the words that are repeated.
	b.c.leadership = nil
	b.turn()
	say("n-n1", list[0], list[0].Epoch)
	say("n-n2", list[3], list[3].Epoch)
	b.turn()
	if got := b.kinds(); got != "Confirm" {
		t.Errorf("after a change of leader: %s", got)
	}
}

// TestPlacedWithTheLastReport: a new HAVIP is placed in the turn after the entry with the
// last report, by no timer.
func TestPlacedWithTheLastReport(t *testing.T) {
	b := newBench(t, 3)
	b.turn()
	b.kinds()
	id := b.do(fsm.CreateHAVIP{Name: "new", Subnet: b.state.HAVIPList()[0].Subnet}).Object
	for i := 1; i <= 3; i++ {
		b.turn()
		if got := b.kinds(); got != "" {
			t.Fatalf("before report %d it proposes %s", i, got)
		}
		node := fmt.Sprint("n", i)
		b.do(fsm.ReportGuarded{Node: "n-" + node, Session: b.session(node), Index: b.state.Index})
	}
	b.turn()
	if got := b.kinds(); got != "Place" || b.state.HAVIPs[id].Owner == nil {
		t.Errorf("it proposes %s", got)
	}
}

// The voter may be in another process: at rest nobody asks it, nor does a node's word of how far it is make
// a turn. While a placement avoids a node that renews late, it is asked in each turn.
func TestAtRestTheVoterIsNotAsked(t *testing.T) {
	b := newBench(t, 6)
	asked := func() int { before := b.voter.asked; b.turn(); return b.voter.asked - before }
	asked()
	b.voter.silent = map[string]bool{"n-n1": true}
	if n := asked(); n != 0 {
		t.Errorf("at rest it asks %d times", n)
	}
	if b.c.take(wire.Message{From: "n-n2", Status: &wire.StatusMessage{Applied: b.state.Index}}) {
		t.Error("a node's word of how far it is makes a turn")
	}
	list := b.state.HAVIPList()
	id := list[slices.IndexFunc(list, func(v fsm.HAVIP) bool { return v.Owner.ENI == "n2/eth0" })].ID
	b.do(fsm.BanHAVIP{ID: id, Target: "n2", For: time.Hour})
	for range 2 { // it is silent on both, then it moves
		asked()
	}
	if v := b.state.HAVIPs[id]; v.Owner != nil && v.Owner.ENI == "n1/eth0" {
		t.Error("it goes to the node that renews late")
	}
	for range 3 {
		if asked() == 0 {
			t.Error("nobody asks whether the node renews again")
		}
	}
	b.voter.silent = nil
	asked()
	if n := asked(); n != 0 {
		t.Errorf("at rest again it asks %d times", n)
	}
}

// TestNothingDueCostsNothing: a turn computes a placement only when something that it depends
// on has changed, or the time has come.
func TestNothingDueCostsNothing(t *testing.T) {
	b := newBench(t, 6)
	b.turn()
	b.kinds()
	v := b.state.HAVIPList()[0]
	inputs := b.c.leadership.placing.inputs
	computed := func() bool { // by the next turn
		b.c.leadership.placing.unheard = map[string]bool{} // nil and empty are the same, and this is noticed
		b.turn()
		return b.c.leadership.placing.unheard == nil
	}
	if computed() {
		t.Error("nothing has happened")
	}
	b.do(fsm.Confirm{Claims: []fsm.ConfirmedClaim{{HAVIP: v.ID, Epoch: v.Epoch, Session: v.Owner.Session}}})
	b.do(fsm.ReportEvent{Node: "n-n1", Kind: "repaired", Text: "x"})
	b.do(fsm.ReportGuarded{Node: "n-n1", Session: b.session("n1"), Index: b.state.Index})
	if computed() || b.c.leadership.placing.inputs != inputs {
		t.Error("a confirmation, an event and a report that nobody waits for")
	}
	b.do(fsm.BanHAVIP{ID: v.ID, Target: "n1", For: time.Hour})
	if b.turn(); b.kinds() != "Place" {
		t.Error("a ban")
	}
	b.turn()
	b.pass(59 * time.Minute)
	b.c.applied["n-n1"], b.c.applied["n-n2"] = appliedAt{index: 1, at: b.now}, appliedAt{index: 1, at: b.now}
	b.turn() // somebody is heard again, or not
	if computed() {
		t.Error("before the ban ends")
	}
	if pause := b.turn(); pause > time.Minute {
		t.Errorf("it sleeps for %s", pause)
	}
	b.pass(time.Minute)
	b.c.applied["n-n1"], b.c.applied["n-n2"] = appliedAt{index: 1, at: b.now}, appliedAt{index: 1, at: b.now}
	if !computed() {
		t.Error("the ban has ended")
	}
}

// TestNewHAVIPsWaitForWhoWasWell: a node that was well until now gets its part of them, if it is well again soon.
func TestNewHAVIPsWaitForWhoWasWell(t *testing.T) {
	silent := func(b *bench, yes bool) { b.voter.silent = map[string]bool{"n-n2": yes} }
	behind := func(b *bench, yes bool) {
		report := fsm.ReportBehind{Session: b.session("n2")}
		if yes {
			report.Behind = 1
		}
		b.do(report)
	}
	for _, row := range []struct {
		name string
		back bool
		ill  func(b *bench, yes bool)
	}{{"renews late, and dies", false, silent}, {"renews late", true, silent}, {"does not apply", false, behind}, {"applies late", true, behind}} {
		back := row.back
		b := newBench(t, 2)
		for range 3 {
			b.turn()
		}
		row.ill(b, true)
		for i := range 6 {
			b.do(fsm.CreateHAVIP{Name: fmt.Sprint("new-", i), IP: netip.AddrFrom4([4]byte{10, 66, 0, byte(2 + i)})})
		}
		for i := 1; i <= 3; i++ {
			node := fmt.Sprint("n", i)
			b.do(fsm.ReportGuarded{Node: "n-" + node, Session: b.session(node), Index: b.state.Index})
		}
		placed := func() (all, atN2 int) {
			for _, v := range b.state.HAVIPs {
				if strings.HasPrefix(v.Name, "new-") && v.Owner != nil {
					all++
					if v.Owner.Node == "n-n2" {
						atN2++
					}
				}
			}
			return all, atN2
		}
		heard := func() {
			b.c.applied["n-n1"], b.c.applied["n-n2"] = appliedAt{index: 1, at: b.now}, appliedAt{index: 1, at: b.now}
		}
		heard()
		b.turn()
		b.pass(newGrace - time.Millisecond)
		heard()
		b.turn()
		if n, _ := placed(); n != 0 {
			t.Fatalf("%s: %d are placed while n2 is waited for", row.name, n)
		}
		if back {
			row.ill(b, false)
		} else {
			b.pass(time.Millisecond)
		}
		b.turn()
		if n, atN2 := placed(); n != 6 || (atN2 > 0) != back {
			t.Errorf("%s: %d are placed, %d of them on n2", row.name, n, atN2)
		}
	}
}

// TestARefusedPlacementBacksOff: it is asked less and less often, is an event once, and what
// stands behind it in the turn happens.
func TestARefusedPlacementBacksOff(t *testing.T) {
	b := newBench(t, 6)
	b.turn()
	b.do(fsm.BanHAVIP{ID: b.state.HAVIPList()[0].ID, Target: "n1"})
	b.refuse = fsm.Refuse(fsm.CodeUnsupported, "not today")
	b.kinds()
	served := b.state.HAVIPList()[3]
	b.c.take(wire.Message{From: "n-n2", Activated: []wire.ActivatedMessage{{HAVIP: served.ID, Epoch: served.Epoch, Session: served.Owner.Session}}})
	b.turn()
	if got := b.kinds(); got != "Place Confirm" {
		t.Fatalf("it proposes %s", got)
	}
	asked, told := 0, 0
	for range 600 { // a minute of turns
		b.pass(100 * time.Millisecond)
		b.c.applied["n-n1"], b.c.applied["n-n2"] = appliedAt{index: 1, at: b.now}, appliedAt{index: 1, at: b.now}
		b.turn()
		words := strings.Fields(b.kinds())
		asked += len(slices.DeleteFunc(slices.Clone(words), func(k string) bool { return k != "Place" }))
		told += len(slices.DeleteFunc(words, func(k string) bool { return k != "ReportEvent" }))
	}
	if asked < 10 || asked > 30 || told != 1 {
		t.Errorf("in a minute it is asked %d times and told %d times", asked, told)
	}
	b.refuse = nil
	b.pass(refusedLast)
	b.turn()
	if got := b.kinds(); got != "Place" {
		t.Errorf("at last it proposes %s", got)
	}
	if len(b.c.leadership.placing.refused) != 0 {
		t.Error("it does not forget the refusals")
	}
}

// TestWordsAboutManyHAVIPsAreGathered: where there are many, those that come one after the other get
// into one entry; a give-up does not wait, and with few HAVIPs nothing does.
func TestWordsAboutManyHAVIPsAreGathered(t *testing.T) {
	for _, row := range []struct {
		havips  int
		failure string
		at      string // what is proposed at once, and when they have been gathered
		later   string
	}{
		{6, "", "Release Confirm", ""}, {300, "", "", "Release Confirm"}, {300, "no route", "Release", "Confirm"},
	} {
		b := newBench(t, row.havips)
		b.turn()
		b.kinds()
		list := b.state.HAVIPList()
		served, left := list[row.havips-1], list[row.havips-2]
		b.c.take(wire.Message{From: "n-n2", Activated: []wire.ActivatedMessage{{HAVIP: served.ID, Epoch: served.Epoch, Session: served.Owner.Session}}})
		b.c.take(wire.Message{From: "n-n2", Released: []wire.ClaimMessage{{HAVIP: left.ID, Epoch: left.Epoch, Session: left.Owner.Session, Failure: row.failure}}})
		pause := b.turn()
		got := strings.Join(slices.DeleteFunc(strings.Fields(b.kinds()), func(k string) bool { return k == "Place" }), " ")
		gathered := gatherEach * time.Duration(row.havips)
		b.pass(gathered)
		b.turn()
		later := strings.Join(slices.DeleteFunc(strings.Fields(b.kinds()), func(k string) bool { return k == "Place" }), " ")
		if got != row.at || later != row.later || row.later != "" && pause > gathered {
			t.Errorf("%d HAVIPs, %q: %q at once, %q later, after %v", row.havips, row.failure, got, later, pause)
		}
	}
}

// TestARefusedCloseBacksOff: a turn follows each entry, also a refused one. The same decision is not
// proposed at that speed, what stands behind it in the turn happens, and one line a minute says so.
func TestARefusedCloseBacksOff(t *testing.T) {
	b := newBench(t, 6)
	var lines strings.Builder
	b.c.cfg.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	b.turn()
	b.dies("n2")
	b.refuse, b.kind = fsm.Refuse(fsm.CodeUnsupported, "not today"), "CloseSessions"
	b.kinds()
	served := b.state.HAVIPList()[0]
	b.c.take(wire.Message{From: "n-n1", Activated: []wire.ActivatedMessage{{HAVIP: served.ID, Epoch: served.Epoch, Session: served.Owner.Session}}})
	b.turn()
	if got := b.kinds(); got != "CloseSessions Confirm" {
		t.Fatalf("it proposes %s", got)
	}
	if pause := b.turn(); b.kinds() != "CloseSessions" || pause > 2*refusedFirst {
		t.Errorf("a decision that was refused once is taken again at once; then it sleeps for %s", pause)
	}
	asked := 0
	for range 6000 { // a minute of turns
		b.pass(10 * time.Millisecond)
		b.c.applied["n-n1"], b.c.applied["n-n2"] = appliedAt{index: 1, at: b.now}, appliedAt{index: 1, at: b.now}
		b.turn()
		asked += strings.Count(b.kinds(), "CloseSessions")
	}
	if asked < 10 || asked > 30 {
		t.Errorf("in a minute it is proposed %d times", asked)
	}
	if n := strings.Count(lines.String(), "refused"); n != 1 {
		t.Errorf("%d lines in a minute: %s", n, lines.String())
	}
	b.refuse = nil
	b.pass(refusedLast)
	b.turn()
	if got := b.kinds(); got != "CloseSessions" {
		t.Errorf("at last it proposes %s", got)
	}
}

// TestRefusedPlacementsAreToldOnceAMinute: however many HAVIPs are refused, and however late.
func TestRefusedPlacementsAreToldOnceAMinute(t *testing.T) {
	b := newBench(t, 60)
	b.turn()
	b.refuse = fsm.Refuse(fsm.CodeUnsupported, "not today")
	b.kinds()
	var told []string
	for i := range 600 { // a minute of turns, and every second one more HAVIP that has to go
		if i%10 == 0 {
			b.do(fsm.BanHAVIP{ID: b.state.HAVIPList()[i/10].ID, Target: "n1"})
			b.do(fsm.BanHAVIP{ID: b.state.HAVIPList()[i/10].ID, Target: "n2"})
		}
		b.pass(101 * time.Millisecond)
		b.c.applied["n-n1"], b.c.applied["n-n2"] = appliedAt{index: 1, at: b.now}, appliedAt{index: 1, at: b.now}
		b.turn()
		for _, p := range b.proposed {
			if e, is := p.(fsm.ReportEvent); is {
				told = append(told, e.Text)
			}
		}
		b.proposed = nil
	}
	if len(told) != 2 || !strings.HasPrefix(told[0], "the placement of 1 HAVIPs") || strings.HasPrefix(told[1], "the placement of 1 HAVIPs") {
		t.Errorf("%d events in a minute: %q", len(told), told)
	}
}
