package webhook

import (
	"slices"

	"havip-cluster/fsm"
)

// QueueMax bounds the events that wait for one webhook. Beyond it the oldest is given up, and counted.
const QueueMax = 20_000

// queue is what one webhook has yet to be told, oldest first. It has no clock and no lock.
type queue struct {
	list []waiting
	read uint64 // index up to which the journal was read
	lost uint64 // events that were given up, in all
	// passed is how many events were read that the webhook does not want, in all.
	passed uint64
}

// feed takes what is new in the journal of a state. A webhook that was not fed for longer than the
// journal reaches back is told so by an event of kind gap.
func (q *queue) feed(h fsm.Webhook, st *fsm.State) {
	if st.Index <= q.read {
		return
	}
	if n := len(st.Events); n == fsm.MaxEvents && st.Events[0].Index > q.read+1 {
		first := st.Events[0]
		q.lost++
		q.add(waiting{fsm.Event{Index: first.Index - 1, At: first.At, Kind: "gap", Text: "events were lost: nobody sent for longer than the journal reaches back"}, 1})
	}
	start, _ := slices.BinarySearchFunc(st.Events, q.read+1, func(e fsm.Event, index uint64) int { return int(int64(e.Index) - int64(index)) })
	index, nth := uint64(0), 0
	for _, e := range st.Events[start:] {
		if e.Index != index {
			index, nth = e.Index, 0
		}
		nth++
		if !h.Wants(e.Kind) {
			q.passed++
			continue
		}
		q.add(waiting{e, nth})
	}
	q.read = st.Index
}

func (q *queue) add(e waiting) {
	if len(q.list) >= QueueMax {
		q.list = q.list[1:]
		q.lost++
	}
	q.list = append(q.list, e)
}

// done takes the first event out, if it is still e.
func (q *queue) done(e waiting) {
	if len(q.list) > 0 && q.list[0].Index == e.Index && q.list[0].nth == e.nth {
		q.list = q.list[1:]
	}
}

// sent is the index up to which nothing waits any more.
func (q *queue) sent() uint64 {
	if len(q.list) > 0 {
		return q.list[0].Index - 1
	}
	return q.read
}
