package shell

import (
	"havip-cluster/failover/lease"
)

// Delegate acknowledges renewals in a voter's place (lease.Delegation): a program in the kernel. Nothing here blocks
// for long. All methods are called with the voter's lock held.
type Delegate interface {
	// Mark is asked before the voters of the log are looked at. What is granted with it counts only until they
	// change or are suspended after that, whenever this voter learns of it.
	Mark() int64
	// Grant delegates a session, or does not.
	Grant(d lease.Delegation, mark int64) bool
	// Recall ends a delegation and returns what was promised by it. An error: nobody knows.
	Recall(s lease.Session) (lease.Progress, error)
	// Look returns what was promised until now.
	Look(s lease.Session) (lease.Progress, bool)
	// Granted is how many renewals were acknowledged in all.
	Granted() uint64
}

// recall takes a session's promise back before this voter says anything about it. False: it cannot be taken back,
// and so this voter never again says anything. Call it with mu held.
func (v *Voter) recall(s lease.Session) bool {
	if !v.delegated[s] {
		return !v.lost
	}
	p, err := v.cfg.Delegate.Recall(s)
	if err != nil {
		v.lost = true
		v.cfg.Logger.Error("a promise cannot be taken back from the kernel: this voter is silent until its process starts again", "session", s.Number, "node", s.Node, "err", err)
		return false
	}
	delete(v.delegated, s)
	v.acceptor.Progressed(s, p)
	return !v.lost
}

// recallAll takes all promises back: what they hang on is about to change. Call it with mu held.
func (v *Voter) recallAll() {
	for s := range v.delegated {
		if !v.recall(s) {
			return
		}
	}
}

// delegate lets others acknowledge the next renewals like one that was acknowledged just now, or before. Call it with mu held.
func (v *Voter) delegate(now lease.Instant, r lease.Renewal, mark int64) {
	if v.cfg.Delegate == nil || v.lost {
		return
	}
	if d, may := v.acceptor.Delegate(now, r.Session, r.Length); may && v.cfg.Delegate.Grant(d, mark) {
		v.delegated[r.Session] = true
	}
}

// look brings what is known of a session's promise up to date. Call it with mu held.
func (v *Voter) look(s lease.Session) {
	if !v.delegated[s] {
		return
	}
	if p, known := v.cfg.Delegate.Look(s); known {
		v.acceptor.Progressed(s, p)
	}
}

// lookAll is look for all sessions. Call it with mu held.
func (v *Voter) lookAll() {
	for s := range v.delegated {
		v.look(s)
	}
}

// mark is Delegate.Mark. Call it with mu held.
func (v *Voter) mark() int64 {
	if v.cfg.Delegate == nil {
		return 0
	}
	return v.cfg.Delegate.Mark()
}

// Follow has this voter go by the newest state of the log at once, and not with the next message.
func (v *Voter) Follow() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.prepare()
}

// Stop takes all promises back, and says nothing any more.
func (v *Voter) Stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.recallAll()
	v.lost = true
}
