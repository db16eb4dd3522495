package owner

import (
	"havip-cluster/fsm"
)

// changed tells whoever wants to hear it what became of a HAVIP.
func (a *Agent) changed(kind ChangeKind, h *activation, why string) {
	if a.cfg.Changed != nil {
		a.cfg.Changed(Change{Kind: kind, Activation: h.Activation, Reason: why})
	}
}

// hasLeft tells the end of what was acquired.
func (a *Agent) hasLeft(h *activation, why string) {
	if h.acquired {
		h.acquired = false
		a.changed(Released, h, why)
	}
}

// whyReleased is the reason for the change of owner that this node gives way to.
func whyReleased(s *fsm.State, havip string) string {
	if v, exists := s.HAVIPs[havip]; exists {
		return v.Reason
	}
	return "the HAVIP was deleted"
}
