package health

import (
	"math/rand/v2"
	"testing"
	"time"

	"havip-cluster/fsm"
)

func check(change func(k *fsm.Check)) fsm.Check {
	k := fsm.Check{Name: "x", Type: fsm.CheckTCP, Target: "127.0.0.1:1", Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
	if change != nil {
		change(&k)
	}
	return k
}

// play feeds runs, one an interval: + good, - bad, . skipped; it returns the state after each,
// by its first letter.
func play(m *Machine, begin Instant, runs string) (states string, end Instant) {
	now := begin
	for _, r := range runs {
		m.Observe(now, Outcome{Good: r == '+', Skipped: r == '.', Output: string(r)})
		state, _ := m.State(now)
		states += string(state[0])
		now += m.check.Interval
	}
	return states, now
}

func TestRiseAndFall(t *testing.T) {
	for _, tc := range []struct{ runs, want string }{
		{"++", "up"},         // unknown until it has risen
		{"+-+-+-", "uuuuuu"}, // neither
		{"--+---", "uuuuuf"},
		{"++--+--", "upppppp"}, // two bad ones are not three
		{"++---+", "uppp" + "ff"},
		{"++---++", "upppffp"},
		{"++-.-.-", "upppppf"}, // what was not run says nothing
		{"......", "uuuuuu"},
	} {
		if got, _ := play(NewMachine(check(nil), 0), 0, tc.runs); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.runs, got, tc.want)
		}
	}
}

// Within the grace after its start a bad run says nothing; a good one does.
func TestGrace(t *testing.T) {
	k := check(func(k *fsm.Check) { k.Grace = 10 * time.Second })
	if got, _ := play(NewMachine(k, 0), 0, "--------"); got != "uuuuufff" {
		t.Errorf("bad runs: %s", got)
	}
	if got, _ := play(NewMachine(k, 0), 0, "--++"); got != "uuup" {
		t.Errorf("good runs: %s", got)
	}
}

// A service that flaps changes its state ever more seldom, and what fails is told at once.
func TestFlappingIsDamped(t *testing.T) {
	k := check(func(k *fsm.Check) { k.Rise, k.Fall, k.Interval = 1, 1, time.Second })
	m := NewMachine(k, 0)
	changes, now := 0, Instant(0)
	for hour := range 3 {
		before := changes
		for range 3600 / 4 { // two seconds up, two down
			for _, good := range []bool{true, true, false, false} {
				was := m.state
				if m.Observe(now, Outcome{Good: good}) {
					changes++
					if good && was != fsm.CheckFailing && was != fsm.CheckUnknown {
						t.Fatal("it passes from nowhere")
					}
				}
				now += time.Second
			}
		}
		if n := changes - before; n > 16 {
			t.Errorf("hour %d: %d changes go into the log", hour, n)
		}
	}
	if state, why := m.State(now); state != fsm.CheckFailing {
		t.Errorf("after hours of flapping it is %s: %s", state, why)
	}
	// Good for long enough, it passes; ten minutes later nothing is remembered of one failure.
	for range 400 {
		m.Observe(now, Outcome{Good: true})
		now += time.Second
	}
	if m.state != fsm.CheckPassing {
		t.Error("good for 400 s, and not passing")
	}
}

// The hold of one that was good again is told.
func TestHoldIsTold(t *testing.T) {
	m := NewMachine(check(func(k *fsm.Check) { k.Rise, k.Fall = 1, 1 }), 0)
	_, now := play(m, 0, "+-+-")
	if m.state != fsm.CheckFailing {
		t.Fatal(m.state)
	}
	m.Observe(now, Outcome{Good: true})
	if state, why := m.State(now); state != fsm.CheckFailing || why != "good again, held for 10s more: it failed 2 times lately" {
		t.Errorf("%s: %s", state, why)
	}
}

// Detection takes at most fall intervals, however the jitter is drawn, and runs keep apart.
func TestJitterNeverDelays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	k := check(nil)
	for range 1000 {
		m := NewMachine(k, 0)
		now := m.First(r.Float64())
		if now < 0 || now > 2*time.Second {
			t.Fatalf("the first run after %s", now)
		}
		for range 2 {
			m.Observe(now, Outcome{Good: true})
			now += m.Next(r.Float64())
		}
		died := now - k.Interval/2 // some time after the last good run
		for m.state != fsm.CheckFailing {
			m.Observe(now, Outcome{})
			if m.state == fsm.CheckFailing && now-died > time.Duration(k.Fall)*k.Interval {
				t.Fatalf("found %s after it died", now-died)
			}
			step := m.Next(r.Float64())
			if step > k.Interval || step < k.Interval*9/10 {
				t.Fatalf("%s to the next run", step)
			}
			now += step
		}
	}
}
