package edge

import (
	"slices"
	"time"
)

const (
	// portion is how many addresses are told or renewed between two looks whether somebody waits.
	// An announcement takes some 30 µs where the neighbours are on the same machine.
	portion = 64
	// putOffMax is how long what has time is put off, at most, by those who wait.
	putOffMax = 50 * time.Millisecond
)

// portions divides an operation that has time, so that it can be left off. First announcements come
// first, and by themselves.
func (l *Loop) portions(want *Desired, op Op) []Op {
	if want.Awaited == nil || !hasTime(op.Kind) || op.Kind == OpFlush {
		return []Op{op}
	}
	first := 0
	if op.Kind == OpAnnounce {
		for first < len(op.Items) && l.isNew(op.Items[first]) {
			first++
		}
	}
	var out []Op
	if first > 0 {
		out = append(out, Op{Kind: op.Kind, Items: op.Items[:first]})
	}
	for items := range slices.Chunk(op.Items[first:], portion) {
		out = append(out, Op{Kind: op.Kind, Items: items})
	}
	return out
}

// hasTime reports whether operations of a kind may come somewhat later, but for the first announcement
// of an address.
func hasTime(kind OpKind) bool { return kind == OpExtend || kind == OpAnnounce || kind == OpFlush }

// isNew reports whether an address was never announced here.
func (l *Loop) isNew(it Item) bool { return !l.mem.of(it.IP).announced }

// allHaveTime reports whether nothing of a plan is urgent.
func (l *Loop) allHaveTime(ops []Op) bool {
	return !slices.ContainsFunc(ops, func(op Op) bool {
		return !hasTime(op.Kind) || op.Kind == OpAnnounce && l.isNew(op.Items[0])
	})
}

// putsOff reports whether an operation is left to the next turn, because somebody waits for this one to
// end.
func (l *Loop) putsOff(want *Desired, op Op) bool {
	if want.Awaited == nil || !want.Awaited() || !l.allHaveTime([]Op{op}) {
		return false
	}
	now := l.clock()
	if l.awaited == 0 {
		l.awaited = now
	}
	l.putOff = now.Sub(l.awaited) < putOffMax
	return l.putOff
}
