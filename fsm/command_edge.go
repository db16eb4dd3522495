package fsm

// The verbs of level 3: what a node's kernel has come to, as far as the log must know.

// ReportGuarded says that the fence of the session's holder knows, shut, every HAVIP of the
// log up to Index. It only grows. The holder proposes it whenever Cluster.GuardIndex is newer
// than Session.Guarded and its fence has come that far.
type ReportGuarded struct {
	Node    string `json:"node"` // id
	Session uint64 `json:"session"`
	Index   uint64 `json:"index"`
}

// Confirm says of claims that address, fence and announcement stand at their owners. The
// leader proposes it from the words of the owners.
type Confirm struct {
	Claims []ConfirmedClaim `json:"claims"` // 1 to MaxAssignments
}

// ConfirmedClaim names one claim. One that is not the present owner's is passed over.
type ConfirmedClaim struct {
	HAVIP   string `json:"havip"` // id
	Epoch   Epoch  `json:"epoch"`
	Session uint64 `json:"session"`
}

// CloseSessions is CloseSession for sessions that ended together, each by a majority of
// endorsements: all are closed, and then what they held is placed, in one entry (rule 5).
type CloseSessions struct {
	Sessions []uint64     `json:"sessions"` // ascending, each once
	Place    []Assignment `json:"place,omitempty"`
}

// RecordFailovers keeps the timelines of failovers that belong together.
type RecordFailovers struct {
	Failovers []Failover `json:"failovers"`
}

func (ReportGuarded) kind() string   { return "report-guarded" }
func (Confirm) kind() string         { return "confirm" }
func (CloseSessions) kind() string   { return "close-sessions" }
func (RecordFailovers) kind() string { return "record-failovers" }

// edgeBodies are the kinds of level 3.
func edgeBodies() []Body {
	return []Body{&ReportGuarded{}, &Confirm{}, &CloseSessions{}, &RecordFailovers{}}
}
