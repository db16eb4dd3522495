package owner

const (
	// askMax is how many HAVIPs a node asks each other node for at the same time: those that come
	// together share the gap of a turn, and the others are served on meanwhile where they are.
	// Of very many it is a part, askPart: what a turn costs grows with the number of HAVIPs.
	askMax  = 32
	askPart = 32
)

// pace keeps a node that gets many HAVIPs from being given more of them at once than it can put
// up at once. It withholds the word Ready; an owner that hears none serves on, and gives way by
// itself when its patience ends.
//
// HAVIPs are asked for in lots: the next one while the last is put up here, so that it is taken down
// meanwhile where it is, and not before half of the last has come: lots of one or two cost as much.
type pace struct {
	lot      int
	full     bool           // a lot is on its way up here, and more than that
	waiting  map[string]int // asked before and not here yet, by node
	asked    map[string]int // for the first time in this turn, by node
	said     func(Step) bool
	withheld bool
}

// newPace begins a turn with these steps. said reports whether a step's word was said before. What
// is here and does not stand yet takes room.
func newPace(havips int, activations map[string]*activation, steps []Step, said func(Step) bool) pace {
	p := pace{lot: max(askMax, havips/askPart), waiting: map[string]int{}, asked: map[string]int{}, said: said}
	rising := 0
	for _, h := range activations {
		if !h.serving && !h.leaving {
			rising++
		}
	}
	p.full = rising > p.lot
	for _, step := range steps {
		if step.Kind == StepReady && said(step) {
			for _, node := range step.To {
				p.waiting[node]++
			}
		}
	}
	return p
}

// room is how many more a node may be asked for in this turn.
func (p *pace) room(node string) int {
	if p.full || p.waiting[node] > p.lot/2 {
		return 0
	}
	return p.lot - p.waiting[node] - p.asked[node]
}

// mayAsk reports whether the earlier owners may be told now that this node is ready, or told
// again. One that never answers holds up none but its own.
func (p *pace) mayAsk(step Step) bool {
	if p.said(step) {
		return true
	}
	for _, node := range step.To {
		if p.room(node) <= 0 {
			p.withheld = true
			return false
		}
	}
	for _, node := range step.To {
		p.asked[node]++
	}
	return true
}
