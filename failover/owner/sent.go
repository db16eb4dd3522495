package owner

import "havip-cluster/fsm"

// sent: clients find it here.
func (a *Agent) sent(h *activation) bool {
	return a.cfg.Sent == nil || a.cfg.Sent(h.HAVIP.ID, h.Claim.Epoch)
}

// SentHere tells the leader that the cloud sends a HAVIP here since now, which is a step of its own.
// Anybody may call it; it does not block.
func (a *Agent) SentHere(havip string, epoch fsm.Epoch) {
	for _, s := range a.Activations() {
		if s.HAVIP.ID == havip && s.Claim.Epoch == epoch {
			a.stepReporter.sentHere(s.Activation)
		}
	}
	a.Wake()
}
