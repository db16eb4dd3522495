package owner

import (
	"slices"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// postman counts the datagrams to each node.
type postman map[string]int

func (p postman) Send(to fsm.Node, _ []byte) error { p[to.ID]++; return nil }

// wordLog is a Log of which only what mail asks is answered.
type wordLog struct {
	ports.Log
	state *fsm.State
}

func (l *wordLog) State() *fsm.State { return l.state }
func (*wordLog) LeaderID() string    { return "" }
func (*wordLog) CaughtUp() bool      { return true }

// mailOf sends for a node without a key.
func mailOf(node string, log ports.Log, gossip ports.Post) *wire.Mail {
	return wire.NewMail(wire.Config{Node: node, Log: log, Gossip: gossip}, func(wire.Message) {})
}

// A word is repeated soon at first, because the first datagram may be lost, and then ever more
// seldom; to a node that has not heard it yet it goes at once.
func TestWordsAreRepeatedEverMoreSeldom(t *testing.T) {
	sent := postman{}
	log := &wordLog{state: newStage(3).head()}
	s := newOutbox(mailOf("A", log, sent)) // these nodes have no keys
	step := Step{Kind: StepReleased, HAVIP: "havip-1", Claim: fsm.Claim{Epoch: 3, Session: 1}, To: []string{"B"}}
	start := lease.Instant(time.Hour)
	var at []int64
	for now := start; now < start.Add(400*time.Millisecond); now = now.Add(time.Millisecond) {
		before := sent["B"]
		s.say(step, "")
		again := s.flush(now, log.state)
		if sent["B"] > before {
			at = append(at, now.Sub(start).Milliseconds())
		}
		if again <= now || again > now.Add(repeatSlowest) {
			t.Fatalf("at %v: again at %v", now, again)
		}
	}
	if want := []int64{0, 10, 30, 70, 150, 230, 310, 390}; !slices.Equal(at, want) {
		t.Errorf("said after %v ms, want %v", at, want)
	}
	step.To = []string{"C"}
	s.say(step, "")
	if s.flush(start.Add(391*time.Millisecond), log.state); sent["C"] != 1 {
		t.Errorf("the new successor has heard it %d times", sent["C"])
	}
}
