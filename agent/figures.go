package agent

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"havip-cluster/failover/leader"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/fsm"
)

// figures is what is counted while it happens; what can be read when it is asked for is in
// metrics. All label values are there from the start, so that a rate is one from the first event on.
type figures struct {
	moves    *prometheus.CounterVec
	failover *prometheus.HistogramVec
	renewal  prometheus.Histogram
	logWrite prometheus.Histogram
	claims   prometheus.Counter
	leaders  prometheus.Counter
	margin   margins
}

// Buckets, in seconds.
var (
	failoverBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .2, .3, .4, .5, .6, .75, 1, 1.5, 2, 3, 5, 10}
	renewalBuckets  = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .02, .03, .05, .1, .2, .5, 1}
	logWriteBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
)

func newFigures() *figures {
	f := &figures{
		moves: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "havip_moves_total", Help: "Changes of owner that this node has applied since it caught up with the log, by reason: asked, failover, placed, handover, unfit, wish. Every node counts all of them.",
		}, []string{"reason"}),
		failover: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "havip_failover_seconds", Help: "How long the phases of failovers took, as their timelines say; total is from the last renewal to the new owner's word. Every node counts all of them.", Buckets: failoverBuckets,
		}, []string{"phase"}),
		renewal: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "havip_renewal_rtt_seconds", Help: "From the sending of this node's renewals to the acknowledgement of each other voter.", Buckets: renewalBuckets,
		}),
		logWrite: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "havip_log_write_seconds", Help: "How long writes to the log took, with their fsync.", Buckets: logWriteBuckets,
		}),
		claims: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "havip_foreign_claims_total", Help: "Frames in which a station outside the cluster claimed a HAVIP, as this node saw them.",
		}),
		leaders: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "havip_raft_leader_changes_total", Help: "How often this node has learnt of a new leader, the first one after its start included.",
		}),
		margin: margins{now: time.Now},
	}
	for _, r := range fsm.MoveReasons() {
		f.moves.WithLabelValues(string(r))
	}
	for _, name := range leader.PhaseNames() {
		f.failover.WithLabelValues(name)
	}
	return f
}

// register makes them visible.
func (f *figures) register(r *prometheus.Registry) {
	r.MustRegister(f.moves, f.failover, f.renewal, f.logWrite, f.claims, f.leaders)
}

// applied counts what a command of the log has done.
func (f *figures) applied(before, after *fsm.State, c fsm.Command) {
	fsm.EachMove(before, after, c, func(r fsm.MoveReason) { f.moves.WithLabelValues(string(r)).Inc() })
	for _, done := range c.Failovers() {
		for _, p := range leader.Phases(done) {
			f.failover.WithLabelValues(p.Name).Observe(p.Took.Seconds())
		}
	}
}

func (f *figures) wrote(took time.Duration) { f.logWrite.Observe(took.Seconds()) }

func (f *figures) measure() shell.Measure {
	return shell.Measure{
		Renewed:  func(rtt time.Duration) { f.renewal.Observe(rtt.Seconds()) },
		Extended: f.margin.extended,
	}
}

// marginSpan is for how long at least the least margin counts; a scrape each 30 s misses none.
const marginSpan = time.Minute

// margins keeps the least of what was left of the lease when it was extended, of the last one to
// two minutes.
type margins struct {
	now func() time.Time

	mu            sync.Mutex
	since         time.Time
	least, before time.Duration // of this span and of the one before; 0: none, a lease that ended is never extended
}

func (m *margins) extended(left time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	if m.least == 0 || left < m.least {
		m.least = max(left, 1)
	}
}

// turn begins a new span when the present one is over.
func (m *margins) turn() {
	now := m.now()
	switch age := now.Sub(m.since); {
	case age >= 2*marginSpan:
		m.since, m.before, m.least = now, 0, 0
	case age >= marginSpan:
		m.since, m.before, m.least = now, m.least, 0
	}
}

// read is the least margin; not ok: no lease was extended of late.
func (m *margins) read() (least time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	switch {
	case m.least == 0:
		least = m.before
	case m.before == 0:
		least = m.least
	default:
		least = min(m.least, m.before)
	}
	return least, least != 0
}

// candidates keeps the last count, because it looks at each HAVIP on each ENI.
type candidates struct {
	mu     sync.Mutex
	inputs uint64
	until  time.Time
	counts map[string]int
}

// candidatesFor is how long a count is good while nothing changes: bans end with time.
const candidatesFor = 10 * time.Second

func (c *candidates) of(s *fsm.State, now time.Time) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil || c.inputs != s.PlacementInputs() || !now.Before(c.until) {
		c.counts, c.inputs, c.until = s.Candidates(now.UnixNano()), s.PlacementInputs(), now.Add(candidatesFor)
	}
	return c.counts
}
