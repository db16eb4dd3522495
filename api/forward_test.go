package api

import (
	"bytes"
	"maps"
	"net"
	"net/http"
	"testing"
)

// TestALeaderThatShakesNoHand: a leader that takes connections and is silent, as one that is frozen does, was sent
// nothing. So that is no lost answer, and who leads next is asked.
func TestALeaderThatShakesNoHand(t *testing.T) {
	w := newWorld(t)
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.log.mu.Lock()
	s := *w.log.state
	s.Nodes = maps.Clone(s.Nodes)
	frozen := s.Nodes[w.nodes[0].id.NodeID]
	frozen.APIPort = mute.Addr().(*net.TCPAddr).Port
	s.Nodes[frozen.ID] = frozen
	w.log.state = &s
	w.log.mu.Unlock()
	taken := make(chan net.Conn, 16)
	go func() {
		defer close(taken)
		for {
			c, err := mute.Accept()
			if err != nil {
				return
			}
			w.log.lead(w.nodes[1].id.NodeID)
			taken <- c
		}
	}()
	resp, answer := w.ask(t, 1, "POST", "/v1/havips", webBody)
	if resp.StatusCode >= http.StatusBadRequest || bytes.Contains(answer, []byte(CodeAnswerLost)) {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
	must(t, mute.Close())
	met := 0
	for c := range taken {
		met++
		must(t, c.Close())
	}
	if met == 0 {
		t.Error("nobody asked the leader that is silent")
	}
}
