package failover

import (
	"slices"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// postman counts the datagrams to each node.
type postman map[string]int

func (p postman) Send(to fsm.Node, _ []byte) error { p[to.ID]++; return nil }

// wordLog is a Log of which only what mail asks is answered.
type wordLog struct {
	Log
	state *fsm.State
}

func (l *wordLog) State() *fsm.State { return l.state }
func (*wordLog) LeaderID() string    { return "" }
func (*wordLog) CaughtUp() bool      { return true }

// A word is repeated soon at first, because the first datagram may be lost, and then ever more
// seldom; to a node that has not heard it yet it goes at once.
func TestWordsAreRepeatedEverMoreSeldom(t *testing.T) {
	sent := postman{}
	log := &wordLog{state: newSized(t, 4).state}
	s := newSaying(newMail(Config{Node: "n-n1", Gossip: sent, Log: log})) // these nodes have no keys
	step := Step{Kind: StepReleased, HAVIP: "havip-1", Claim: fsm.Claim{Epoch: 3, Session: 1}, To: []string{"n-n2"}}
	start := lease.Instant(time.Hour)
	var at []int64
	for now := start; now < start.Add(400*time.Millisecond); now = now.Add(time.Millisecond) {
		before := sent["n-n2"]
		s.say(step, "")
		again := s.flush(now, log.state)
		if sent["n-n2"] > before {
			at = append(at, now.Sub(start).Milliseconds())
		}
		if again <= now || again > now.Add(wordSlowest) {
			t.Fatalf("at %v: again at %v", now, again)
		}
	}
	if want := []int64{0, 10, 30, 70, 150, 230, 310, 390}; !slices.Equal(at, want) {
		t.Errorf("said after %v ms, want %v", at, want)
	}
	step.To = []string{"n-n3"}
	s.say(step, "")
	if s.flush(start.Add(391*time.Millisecond), log.state); sent["n-n3"] != 1 {
		t.Errorf("the new successor has heard it %d times", sent["n-n3"])
	}
}
