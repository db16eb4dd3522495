package owner

import "havip-cluster/fsm"

// told is what became of an activation, as it was then.
type told struct {
	kind ChangeKind
	activation
	why string
}

// tell notes what became of a HAVIP. It is told at the end of the turn: a successor waits for the
// messages of the turn, and the log lines of many HAVIPs take longer than these.
func (a *Agent) tell(kind ChangeKind, h *activation, why string) {
	a.untold = append(a.untold, told{kind, *h, why})
	h.acquired = kind == Acquired || h.acquired && kind != Released
}

// tellAll logs what was noted, and tells whoever wants to hear it, in order.
func (a *Agent) tellAll() {
	for _, t := range a.untold {
		args := []any{"havip", t.HAVIP.Name, "ip", t.HAVIP.IP, "eni", t.ENI.ID}
		switch t.kind {
		case Acquired:
			a.cfg.Logger.Info("HAVIP is here", append(args, "epoch", t.Claim.Epoch, "took", t.took)...)
		case Released:
			a.cfg.Logger.Info("HAVIP has left", append(args, "epoch", t.Claim.Epoch)...)
		case Faulted:
			a.cfg.Logger.Error("cannot serve a HAVIP, giving it up", append(args, "err", t.why)...)
		}
		if a.cfg.Changed == nil || t.kind == Released && !t.acquired {
			continue // the end of what was never acquired is not told
		}
		a.cfg.Changed(Change{Kind: t.kind, Activation: t.Activation, Reason: t.why})
	}
	clear(a.untold)
	a.untold = a.untold[:0]
}

// whyReleased is the reason for the change of owner that this node gives way to.
func whyReleased(s *fsm.State, havip string) string {
	if v, exists := s.HAVIPs[havip]; exists {
		return v.Reason
	}
	return "the HAVIP was deleted"
}
