package failover

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
type pace struct {
	room     int
	asked    map[string]int // by node
	withheld bool
}

// newPace begins a turn. What is here and does not stand yet takes room.
func newPace(havips int, holdings map[string]*holding) pace {
	p := pace{room: max(askMax, havips/askPart), asked: map[string]int{}}
	for _, h := range holdings {
		if !h.serving && !h.leaving {
			p.room--
		}
	}
	return p
}

// mayAsk reports whether the earlier owners may be told now that this node is ready. One that
// never answers holds up none but its own.
func (p *pace) mayAsk(step Step) bool {
	for _, node := range step.To {
		if p.asked[node] >= p.room {
			p.withheld = true
			return false
		}
	}
	for _, node := range step.To {
		p.asked[node]++
	}
	return true
}
