package api

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

const (
	// CalibrationSeconds is how far back a node knows how it has renewed.
	CalibrationSeconds = 900
	// renewalsPerLease is that of the lease protocol, rule 2.
	renewalsPerLease = 5
	// proposedUse is the part of a proposed lease, in percent, that the worst event seen would have
	// used, with the pace of the renewals: as much again may come.
	proposedUse = 50
	// proposedStep is what proposals are multiples of.
	proposedStep = 10 * time.Millisecond
)

// CalibrationSecond is how a node's renewals went in one second.
type CalibrationSecond struct {
	At       int64  `json:"at" doc:"Unix seconds, by that node's clock"`
	Renewals uint32 `json:"renewals"`
	Answered uint32 `json:"answered" doc:"By a majority"`
	TookOver uint32 `json:"took_over,omitempty" doc:"Renewals that an ordinary thread sent because the real-time one was late"`
	LateUS   int64  `json:"late_us" doc:"By how much the latest renewal left after its time"`
	TripUS   int64  `json:"trip_us" doc:"Until a majority had answered, at most"`
	LeastUS  int64  `json:"least_us" doc:"The least that was left of the lease when it was prolonged"`
}

// NodeCalibration is what a node says of its lease plane.
type NodeCalibration struct {
	Node    string              `json:"node" doc:"Name"`
	LeaseMS int64               `json:"lease_ms" doc:"The lease that was kept in these seconds"`
	Plane   Plane               `json:"lease_plane"`
	Seconds []CalibrationSecond `json:"seconds" doc:"Oldest first, without the present one"`
	StealUS int64               `json:"steal_us" doc:"What the hypervisor took from all cores since the boot (/proc/stat)"`
	SyncUS  int64               `json:"sync_us,omitempty" doc:"The slowest of some flushes of the data directory's disk, just now"`
	Problem string              `json:"problem,omitempty" doc:"Why it says nothing"`
}

type calibrationQuery struct {
	Seconds int  `query:"seconds" minimum:"1" maximum:"900" default:"900" doc:"How far back"`
	Sync    bool `query:"sync" doc:"Flush the disks, too"`
}

// calibrationRoutes are what a node says of itself, to all and to the others.
func (s *Server) calibrationRoutes() {
	huma.Register(s.huma, huma.Operation{
		Method: http.MethodGet, Path: "/v1/calibration", OperationID: "show-calibration", Summary: "How each node has kept its lease of late", Errors: readErrors,
	}, func(ctx context.Context, in *calibrationQuery) (*reply[[]NodeCalibration], error) {
		return answer(s.Backend.State(), list(s.Backend.Calibration(ctx, in.Seconds, in.Sync))), nil
	})
	huma.Register(s.huma, huma.Operation{
		Method: http.MethodGet, Path: "/v1/internal/calibration", OperationID: "own-calibration", Hidden: true,
	}, func(ctx context.Context, in *calibrationQuery) (*reply[NodeCalibration], error) {
		if _, err := s.callingNode(ctx); err != nil {
			return nil, problemOf(err)
		}
		return answer(s.Backend.State(), s.Backend.OwnCalibration(in.Seconds, in.Sync)), nil
	})
}

func calibrationValues(seconds int, sync bool) url.Values {
	return url.Values{"seconds": {strconv.Itoa(seconds)}, "sync": {strconv.FormatBool(sync)}}
}

// Calibration asks all nodes how they have kept their leases.
func (c *Client) Calibration(ctx context.Context, seconds int, sync bool) ([]NodeCalibration, error) {
	return get[[]NodeCalibration](ctx, c, "/v1/calibration", calibrationValues(seconds, sync))
}

// OwnCalibration asks one node, as another node.
func (c *Client) OwnCalibration(ctx context.Context, seconds int, sync bool) (NodeCalibration, error) {
	return once[NodeCalibration](ctx, c, http.MethodGet, "/v1/internal/calibration?"+calibrationValues(seconds, sync).Encode(), nil)
}

// Worst is a second in which a lease came closest to its end.
type Worst struct {
	Node   string `json:"node"`
	At     int64  `json:"at" doc:"Unix seconds"`
	UsedMS int64  `json:"used_ms" doc:"What it took beside the pace of the renewals"`
	LateMS int64  `json:"late_ms"`
	TripMS int64  `json:"trip_ms"`
	Cause  string `json:"cause" doc:"The likely one"`

	used time.Duration
}

// worstOf finds the second in which a node's lease came closest to its end; false: it has told none.
//
// A lease of length L that is renewed each L/5 lives when its renewal leaves late and is answered
// after trip, if L/5 + late + trip < L. Where renewals were lost, what was left of the lease says more.
func worstOf(n NodeCalibration) (w Worst, known bool) {
	pace := time.Duration(n.LeaseMS) * time.Millisecond / renewalsPerLease
	for _, s := range n.Seconds {
		late, trip := time.Duration(s.LateUS)*time.Microsecond, time.Duration(s.TripUS)*time.Microsecond
		used := late + trip
		lost := time.Duration(0)
		if s.LeastUS > 0 {
			lost = time.Duration(n.LeaseMS)*time.Millisecond - time.Duration(s.LeastUS)*time.Microsecond - pace
		}
		cause := causeOf(n.Plane, late, trip, lost)
		if used = max(used, lost); !known || used > w.used {
			w = Worst{Node: n.Node, At: s.At, UsedMS: ceilMS(used), LateMS: ceilMS(late), TripMS: ceilMS(trip), Cause: cause, used: used}
			known = true
		}
	}
	return w, known
}

func ceilMS(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// causeOf says what most likely lay behind an event.
func causeOf(p Plane, late, trip, lost time.Duration) string {
	switch {
	case lost > 2*(late+trip):
		return "renewals or answers were lost, or nobody answered: the network, or voters that were away"
	case late >= trip && !p.RealTime:
		return "the node was too busy to renew in time; it has no real-time priority"
	case late >= trip:
		return "the node's processor was not there in time: stolen by the hypervisor, or held by interrupts"
	}
	return "a majority answered late: the network, or busy voters"
}

// keeps is the shortest lease that a node would have kept through an event.
func (w Worst) keeps() time.Duration {
	return w.used * renewalsPerLease / (renewalsPerLease - 1)
}

// Proposal is the shortest lease that leaves a margin over all that was seen.
type Proposal struct {
	LeaseMS    int64 `json:"lease_ms"`
	MarginMS   int64 `json:"margin_ms" doc:"What the worst event would have left of it"`
	FailoverMS int64 `json:"failover_ms" doc:"How long a client then waits after the loss of a host, about"`
	KeptMS     int64 `json:"kept_ms" doc:"The shortest lease that would have lived through everything, without a margin"`
}

// Propose gives the shortest lease by what nodes have told, and the worst second of each node, worst
// first. False: nobody has told anything. Pure.
func Propose(nodes []NodeCalibration) (p Proposal, worst []Worst, known bool) {
	sync, trip := time.Duration(0), int64(0)
	for _, n := range nodes {
		if w, ok := worstOf(n); ok {
			worst, trip = append(worst, w), max(trip, w.TripMS)
		}
		sync = max(sync, time.Duration(n.SyncUS)*time.Microsecond)
	}
	if len(worst) == 0 {
		return p, nil, false
	}
	slices.SortFunc(worst, func(a, b Worst) int { return cmp.Or(cmp.Compare(b.used, a.used), cmp.Compare(a.Node, b.Node)) })
	used := worst[0].used
	l := used * 100 / (proposedUse - 100/renewalsPerLease)
	l = (l + proposedStep - 1).Truncate(proposedStep)
	l = min(max(l, limits.LeaseProposed), limits.LeaseLongest)
	p.LeaseMS, p.KeptMS = l.Milliseconds(), max(ceilMS(worst[0].keeps()), 1)
	p.MarginMS = (l - l/renewalsPerLease - used).Milliseconds()
	// The promise beyond the lease, three trips, and a commit: a flush at the leader, then at another voter.
	p.FailoverMS = ceilMS(l + l/50 + 2*time.Millisecond + 2*sync + time.Millisecond)
	return p, worst, true
}

// cannotKeep refuses a lease that a node would have lost of late.
func (s *Server) cannotKeep(ctx context.Context, lease time.Duration) *fsm.Refusal {
	_, worst, known := Propose(s.Backend.Calibration(ctx, CalibrationSeconds, false))
	if !known || lease >= worst[0].keeps() {
		return nil
	}
	w := worst[0]
	return fsm.Refuse(fsm.CodeRange, "node %s would have lost a lease of %v at %s: a renewal left %d ms late, a majority had answered %d ms later, in all %d ms beside the pace of renewals (%s); the shortest that it has kept through the last %v is %d ms; `calibrate` measures for longer, --force sets it all the same",
		w.Node, lease, time.Unix(w.At, 0).UTC().Format(time.RFC3339), w.LateMS, w.TripMS, w.UsedMS, w.Cause, CalibrationSeconds*time.Second, ceilMS(w.keeps()))
}
