package reach

import (
	"slices"
	"testing"
	"time"
)

// played runs a table for a while against a world in which some doors are shut; the steps are those of the prober.
type played struct {
	t     *testing.T
	table Table
	now   time.Time
	tries map[Probe]int
}

func play(t *testing.T) *played {
	return &played{t: t, now: time.Unix(1000, 0), tries: map[Probe]int{}}
}

func (p *played) run(d time.Duration, peers []Peer, shut func(Probe) Why) {
	for end := p.now.Add(d); p.now.Before(end); {
		p.table.Meet(peers)
		due := p.table.Due(p.now, 0.5)
		for _, probe := range due {
			p.tries[probe]++
			p.table.Note(p.now, probe, shut(probe))
		}
		next := p.table.Next()
		if !next.After(p.now) {
			p.t.Fatalf("at %s the next turn is %s", p.now, next)
		}
		p.now = next
	}
}

func (p *played) failing() (out []Probe) {
	for _, f := range p.table.Failures(p.now) {
		out = append(out, f.Probe)
	}
	return out
}

func open(Probe) Why { return "" }

func only(which Probe, why Why) func(Probe) Why {
	return func(p Probe) Why {
		if p == which {
			return why
		}
		return ""
	}
}

func TestADoorFailsAfterSomeTriesInARow(t *testing.T) {
	p, shut := play(t), Probe{"b", Raft}
	peers := []Peer{{"b", true}, {"c", true}}
	p.run(time.Minute, peers, open)
	began := p.now
	tries := 0
	for len(p.failing()) == 0 {
		p.run(time.Millisecond, peers, only(shut, TimedOut))
		if tries++; tries > 20 {
			t.Fatal("it is never told")
		}
	}
	if got := p.failing(); !slices.Equal(got, []Probe{shut}) {
		t.Errorf("failing: %v", got)
	}
	if took := p.now.Sub(began); took < (certainTries-1)*retryEvery || took > 3*turnEvery {
		t.Errorf("it was told after %s", took)
	}
	f := p.table.Failures(p.now)[0]
	if f.Why != TimedOut || f.Since.Before(began) || f.Since.After(began.Add(2*turnEvery)) {
		t.Errorf("the failure is %+v, it began at %s", f, began)
	}
	p.run(2*turnEvery, peers, only(shut, Refused))
	if got := p.table.Failures(p.now)[0]; got.Why != Refused || !got.Since.Equal(f.Since) {
		t.Errorf("with another reason: %+v", got)
	}
	p.run(2*turnEvery, peers, open)
	if got := p.failing(); len(got) != 0 {
		t.Errorf("it works again, and %v is told", got)
	}
}

func TestATryThatWorksBeginsAnew(t *testing.T) {
	p, shut, n := play(t), Probe{"b", GossipUDP}, 0
	p.run(5*time.Minute, []Peer{{"b", true}}, func(probe Probe) Why {
		if probe != shut {
			return ""
		}
		if n++; n%certainTries == 0 {
			return ""
		}
		return NoAnswer
	})
	if got := p.failing(); len(got) != 0 || n < 50 {
		t.Errorf("%d tries, never %d in vain in a row, and %v is told", n, certainTries, got)
	}
}

// A peer that has just died is alive to gossip for a while; it is no news that its doors are shut.
func TestAPeerWithoutASessionIsToldLater(t *testing.T) {
	p := play(t)
	dead := func(probe Probe) Why {
		if probe.Node == "b" {
			return TimedOut
		}
		return ""
	}
	p.run(absentAfter-turnEvery, []Peer{{"b", false}, {"c", true}}, dead)
	if got := p.failing(); len(got) != 0 {
		t.Errorf("told at once: %v", got)
	}
	p.run(2*turnEvery, []Peer{{"b", false}, {"c", true}}, dead)
	if got := p.failing(); len(got) != len(Doors) {
		t.Errorf("gossip sees it all the time, and only this is told: %v", got)
	}
	p.run(turnEvery, []Peer{{"c", true}}, dead)
	if got := p.failing(); len(got) != 0 || len(p.table.failed) != 0 {
		t.Errorf("it is down, and %v is told", got)
	}
}

// The work of a node does not grow with the cluster, and everybody has his turn.
func TestWorkIsBounded(t *testing.T) {
	for _, n := range []int{1, 3, 4, 5, 9, 127} {
		p := play(t)
		var peers []Peer
		for i := range n {
			peers = append(peers, Peer{string(rune('A'+i%26)) + string(rune('a'+i/26)), true})
		}
		rounds := (n + turnPeers - 1) / turnPeers
		p.run(time.Duration(rounds)*turnEvery, peers, open)
		if len(p.tries) != n*len(Doors) {
			t.Errorf("%d peers: %d of %d doors were tried in %d turns", n, len(p.tries), n*len(Doors), rounds)
		}
		all := func(Probe) Why { return TimedOut }
		clear(p.tries)
		p.run(10*time.Minute, peers, all)
		sum := 0
		for _, k := range p.tries {
			sum += k
		}
		if most := int(10*time.Minute/turnEvery)*turnPeers*len(Doors) + 3*n*len(Doors); sum > most*11/10 {
			t.Errorf("%d peers, everything shut: %d tries in ten minutes, at most %d", n, sum, most)
		}
		if got := len(p.failing()); got != n*len(Doors) {
			t.Errorf("%d peers, everything shut: %d doors told", n, got)
		}
	}
}

func TestPackAndUnpack(t *testing.T) {
	var list []Failure
	for i, d := range Doors {
		for j, w := range []Why{TimedOut, Refused, Unreachable, NoAnswer, Failed} {
			list = append(list, Failure{Probe{"n-0123456789abcde" + string(rune('0'+j)), d}, w, time.Unix(1_790_000_000+int64(i), 0)})
		}
	}
	text, more := Pack(list, 10_000)
	if got := Unpack(text); more != 0 || !slices.Equal(got, list) {
		t.Errorf("%d more; %v", more, got)
	}
	for room := range 200 {
		text, more := Pack(list, room)
		if got := Unpack(text); len(text) > room || len(got)+more != len(list) || !slices.Equal(got, list[:len(got)]) {
			t.Errorf("room %d: %d bytes, %d more, %v", room, len(text), more, got)
		}
	}
	for _, bad := range []string{"", ",", "a", "a.rt", ".rt.1", "a.zz.1", "a.rt.-", "a.r.1", "a.rt.1,a.rt.2", "a.rt.zzzzzzzzzzzzzzzzzzzzzz"} {
		if got := Unpack(bad); len(got) > 1 {
			t.Errorf("%q: %v", bad, got)
		}
	}
}
