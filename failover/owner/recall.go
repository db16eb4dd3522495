package owner

import (
	"slices"

	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// recalled gives up claims of which this node's log does not know, and tells who asked: which leader that
// is, this node may not know.
func (a *Agent) recalled(s *fsm.State, leader string, words []wire.ClaimMessage) {
	var given []wire.ClaimMessage
	for _, w := range words {
		if a.handoff.Recalled(s, w.HAVIP, w.Epoch, w.Session) {
			given = append(given, wire.ClaimMessage{HAVIP: w.HAVIP, Epoch: w.Epoch, Session: w.Session})
		}
	}
	if len(given) == 0 {
		return
	}
	a.cfg.Logger.Warn("the log of this node is behind: what it was given meanwhile goes elsewhere", "havips", len(given), "first", s.HAVIPs[given[0].HAVIP].Name)
	for part := range slices.Chunk(given, max(1, wire.ClaimsFit(given))) {
		a.cfg.Mail.Send(leader, wire.Message{Released: part})
	}
}
