package lease

// flaw is a bug of the shell or of the second hand, for tests of the checkers: planted bugs are in the product, and
// the recall is not in this package.
type flaw int

const (
	noFlaw       flaw = iota
	flawEndorses      // a question is answered without a recall
	flawGoesOn        // what was recalled goes on acknowledging
	flawSurvives      // a change of the voters ends nothing

	flawCountsTwice // the holder's second hand counts an answer that comes twice for two
)

// secondHand acknowledges renewals in an acceptor's place, as Delegation says: the program in the kernel.
type secondHand struct {
	Delegation
	mark int // how often the voters were suspended when it was delegated
}

// renew acknowledges a renewal, or does not: then it is the acceptor's.
func (h *secondHand) renew(now Instant, mark int, r Renewal) bool {
	if mark != h.mark || r.Session != h.Session || r.Config != h.Config || r.Length != h.Length || r.Boot != h.Boot ||
		r.Round <= h.Round || !r.Sent.After(h.Sent) {
		return false
	}
	h.Round, h.Sent, h.Heard, h.Until = r.Round, r.Sent, now, max(h.Until, now.Add(h.Promise))
	return true
}

// ackOf is what a hand answers.
func ackOf(a *Acceptor, r Renewal) Ack {
	return Ack{Session: r.Session, Round: r.Round, Sent: r.Sent, Length: r.Length, Config: r.Config, From: a.self, Boot: a.boot}
}

// renewAt brings a renewal to a node: to its second hand, and if that does not acknowledge it, to the acceptor.
func (b *bench) renewAt(node string, r Renewal) (Ack, bool) {
	a, now := b.acceptors[node], b.read(node)
	if h := b.hands[node]; h != nil && h.renew(now, b.marks[node], r) {
		return ackOf(a, r), true
	}
	b.recall(node)
	ack, refusal := a.Renew(now, r)
	if d, may := a.Delegate(now, r.Session, r.Length); b.delegating && (refusal == "" || refusal == RefusedStale) && may && b.hands[node] == nil {
		b.hands[node] = &secondHand{d, b.marks[node]}
	}
	return ack, refusal == ""
}

// recall takes back what the node's second hand has promised.
func (b *bench) recall(node string) {
	h := b.hands[node]
	if h == nil {
		return
	}
	if b.flaw != flawGoesOn {
		delete(b.hands, node)
	}
	b.acceptors[node].Progressed(h.Session, h.Progress)
}
