package fsm

import "time"

// NextDue is the first time after at, in unix nanoseconds, at which Moves may give another
// answer for the same state: a ban, a pause or a failure ends, a delay of failback is over, or
// its window opens. 0 = time alone changes nothing. What only ends a permission to move for a
// wish, such as the close of a window, changes nothing that has been carried out.
func (s *State) NextDue(at int64) int64 {
	d := &due{at: at, policies: map[string]Failback{}}
	for _, n := range s.Nodes {
		d.decay(n.Flaps, FailDecay)
	}
	for _, v := range s.HAVIPs {
		for _, end := range v.BanEnds {
			d.consider(end)
		}
		for _, g := range v.GaveUp {
			d.consider(g.Until)
			d.consider(g.At)
			d.consider(g.At - int64(ClockSlack))
		}
		for _, f := range v.Fails {
			d.decay(f, v.FailsAfter())
		}
		d.failback(s, v.Failback)
	}
	return d.first
}

type due struct {
	at, first int64
	policies  map[string]Failback
}

func (d *due) consider(t int64) {
	if t > d.at && (d.first == 0 || t < d.first) {
		d.first = t
	}
}

// decay considers the next failure that is forgotten.
func (d *due) decay(f FailCount, period time.Duration) {
	if f.Effective(d.at, period) == 0 {
		return
	}
	gone := int64(0)
	if d.at > f.LastAt {
		gone = (d.at - f.LastAt) / int64(period)
	}
	d.consider(f.LastAt + (gone+1)*int64(period))
}

// failback considers a policy, once.
func (d *due) failback(s *State, text string) {
	if _, known := d.policies[text]; known {
		return
	}
	f, refusal := ParseFailback(text)
	if refusal != nil {
		f = Failback{Kind: FailbackNever} // as the placement reads it
	}
	d.policies[text] = f
	switch f.Kind {
	case FailbackDelay:
		for _, sess := range s.Sessions {
			d.consider(sess.Opened + int64(f.Delay))
		}
	case FailbackWindow:
		if !f.InWindow(d.at) {
			d.consider(d.at + int64(f.Opens(d.at)))
		}
	}
}
