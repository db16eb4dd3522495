package leader

import (
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// timeline collects what happened in the failovers of one leader's term, until the new
// owner says that it answers. It serves explanation only.
type timeline struct {
	sessions map[uint64]*deadSession
	open     []*openFailover          // oldest first, at most timelineMax
	newest   map[string]*openFailover // of open, by HAVIP
}

const (
	timelineMax  = fsm.MaxFailovers // the log keeps no more
	timelineWait = 10 * time.Second // then it is recorded as it is
)

// deadSession is what the leader saw of a session's end.
type deadSession struct{ hinted, asked, endorsed lease.Instant }

// openFailover is a failover whose new owner has not reported yet.
type openFailover struct {
	havip, name, from, to string
	epoch                 fsm.Epoch
	heard, hinted, asked  lease.Instant
	endorsed, committed   lease.Instant
	reported              lease.Instant
	took                  time.Duration
}

func newTimeline() *timeline {
	return &timeline{sessions: map[uint64]*deadSession{}, newest: map[string]*openFailover{}}
}

// dead notes that a majority endorsed a session's end.
func (t *timeline) dead(now lease.Instant, session uint64, hinted, asked lease.Instant) {
	t.sessions[session] = &deadSession{hinted: hinted, asked: asked, endorsed: now}
}

// closed notes the commit that closed a session; heard is how long before now this
// leader's own voter had last acknowledged a renewal, negative if unknown.
func (t *timeline) closed(now lease.Instant, before, after *fsm.State, session uint64, heard time.Duration) {
	d := t.sessions[session]
	delete(t.sessions, session)
	if d == nil {
		return
	}
	last := d.hinted
	if heard >= 0 {
		last = now.Add(-heard)
	}
	for _, v := range before.Claimed(session) {
		w, exists := after.HAVIPs[v.ID]
		if !exists || v.Owner == nil || v.Owner.Session != session || len(t.open) >= timelineMax {
			continue
		}
		f := &openFailover{
			havip: v.ID, name: v.Name, from: v.Owner.ENI, epoch: w.Epoch,
			heard: last, hinted: d.hinted, asked: d.asked, endorsed: d.endorsed, committed: now,
		}
		if w.Owner != nil {
			f.to = w.Owner.ENI
		}
		t.open = append(t.open, f)
		t.newest[f.havip] = f
	}
}

// activated notes the new owner's word.
func (t *timeline) activated(now lease.Instant, w wire.ActivatedWord) {
	if f := t.newest[w.HAVIP]; f != nil && f.epoch == w.Epoch && f.reported == 0 {
		f.reported, f.took = now, w.Took
	}
}

// complete removes and returns the failovers whose owner answers, and those that waited
// too long for that. at is the time of the record in unix nanoseconds.
func (t *timeline) complete(now lease.Instant, at int64) []fsm.Failover {
	var done []fsm.Failover
	t.open = slices.DeleteFunc(t.open, func(f *openFailover) bool {
		ready := f.reported != 0 || f.to == "" || now.Sub(f.committed) > timelineWait
		if ready {
			done = append(done, f.record(at))
			if t.newest[f.havip] == f {
				delete(t.newest, f.havip)
			}
		}
		return ready
	})
	return done
}

// Steps of a timeline with which a phase ends (Phases).
const (
	stepHinted    = "first voter's promise ran out"
	stepAsked     = "leader asked the voters"
	stepEndorsed  = "majority endorsed the end"
	stepCommitted = "close and new place committed"
	stepServes    = "new owner put the address up and announced it"
)

func (f *openFailover) record(at int64) fsm.Failover {
	out := fsm.Failover{HAVIP: f.name, Epoch: f.epoch, From: f.from, To: f.to, At: at}
	step := func(what string, at lease.Instant) {
		out.Steps = append(out.Steps, fsm.FailoverStep{What: what, After: max(at.Sub(f.heard), 0)})
	}
	step("last renewal heard by the leader", f.heard)
	step(stepHinted, f.hinted)
	step(stepAsked, f.asked)
	step(stepEndorsed, f.endorsed)
	step(stepCommitted, f.committed)
	switch {
	case f.to == "":
		step("nobody could own it", f.committed)
	case f.reported == 0:
		step("the new owner has not reported", f.committed)
	default:
		step(stepServes+", in "+f.took.Round(10*time.Microsecond).String(), f.reported)
	}
	return out
}
