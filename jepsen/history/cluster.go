package history

// What a run on whole clusters records besides probes, answers, operations and faults.

// Run says what a history is of, and how to have it again.
type Run struct {
	Seed    uint64   `json:"seed"`
	Nodes   []string `json:"nodes"`
	HAVIPs  []string `json:"havips"` // addresses that were watched all the time
	Lease   int64    `json:"lease"`  // ns
	Start   string   `json:"start"`  // wall clock, RFC 3339
	End     int64    `json:"end"`
	Command string   `json:"command"` // replays it
	Binary  string   `json:"binary"`  // version of what was tested
	Machine string   `json:"machine"` // kernel and cores
}

// The states of a HAVIP at a fence.
const (
	FenceOpen    = "open"    // its frames pass
	FenceExpired = "expired" // open, but the lease deadline has passed: silent
	FenceShut    = "shut"
)

// Kernel is a run of samples in which a HAVIP was in one state at the fence of a node. No two
// samples in a row lie farther apart than Widest; a sampler that pauses begins a new run. Each
// sample proves the state at an instant, nothing of the times between two.
type Kernel struct {
	Node     string `json:"node"`
	HAVIP    string `json:"havip"`
	State    string `json:"state"`
	First    int64  `json:"first"`  // end of the first sample
	Last     int64  `json:"last"`   // begin of the last one
	Widest   int64  `json:"widest"` // longest time from one sample to the next, ns
	Samples  uint64 `json:"samples"`
	Deadline int64  `json:"deadline,omitempty"` // of the last sample; an expired run has one only
}

// Frames is a run of frames that a node sent in the name of a HAVIP (ARP sender or IPv4 source),
// each at most FramesApart after the one before. Times are those of the switch's port: a frame
// is judged by the fence before that.
type Frames struct {
	Node  string `json:"node"`
	HAVIP string `json:"havip"`
	First int64  `json:"first"`
	Last  int64  `json:"last"`
	Count uint64 `json:"count"`
}

// FramesApart ends a run of frames, ns.
const FramesApart = 8_000_000

// Usage is what the agent of a node takes up at a quiet moment: between two faults, everything
// healed and owned.
type Usage struct {
	Node       string `json:"node"`
	At         int64  `json:"at"`
	PID        int    `json:"pid"`
	RSS        int64  `json:"rss"` // bytes
	FDs        int    `json:"fds"`
	Threads    int    `json:"threads"`
	Goroutines int    `json:"goroutines"` // -1: /metrics gave no answer
	Files      int    `json:"files"`      // below the data directory
	Bytes      int64  `json:"bytes"`      // on disk, of these
}

// Change is the timeline of one change of owner, as the cluster tells it.
type Change struct {
	HAVIP string   `json:"havip"` // name
	Epoch uint64   `json:"epoch"`
	Kind  string   `json:"kind"`
	From  string   `json:"from,omitempty"`
	To    string   `json:"to,omitempty"`
	Steps []string `json:"steps"` // in their order
	Nodes []string `json:"nodes"` // who did each
}

// The kinds of Mark.
const (
	MarkEpoch   = "epoch"   // the HAVIP of the name Text was at epoch Value when the timelines were read last
	MarkLeader  = "leader"  // Node leads, as it says itself
	MarkSession = "session" // Node has a lease: of session Value, as it says itself
	MarkHeal    = "heal"    // all faults of an episode were taken away; Text names them
	MarkWhole   = "whole"   // all nodes have sessions, every watched HAVIP has an owner
	MarkBroken  = "broken"  // that did not come true in time; Text says what was missing
)

// Mark is something seen at an instant, for the picture of a run and for Recovery.
type Mark struct {
	Kind  string `json:"kind"`
	At    int64  `json:"at"`
	Node  string `json:"node,omitempty"`
	Value uint64 `json:"value,omitempty"`
	Text  string `json:"text,omitempty"`
}

// The verbs of an Op.
const (
	VerbCreate  = "create"
	VerbDelete  = "delete"
	VerbEnable  = "enable"
	VerbDisable = "disable"
	VerbRange   = "range"
	VerbMove    = "move"
	VerbRead    = "read"  // one HAVIP, linearizable
	VerbStale   = "stale" // one HAVIP, as the asked node has applied the log
	VerbFinal   = "final" // as VerbStale, after everything was healed and every node has caught up
	VerbStandby = "standby"
	VerbActive  = "activate"
)

// Request is the Input of an Op on a HAVIP.
type Request struct {
	IP     string   `json:"ip,omitempty"`
	Range  []string `json:"range,omitempty"`
	Add    []string `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
	To     string   `json:"to,omitempty"`
}

// HAVIP is the Output of an Op on a HAVIP that was answered with one.
type HAVIP struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Node     string   `json:"node,omitempty"`
	Session  uint64   `json:"session,omitempty"`
	Epoch    uint64   `json:"epoch"`
	Enabled  bool     `json:"enabled"`
	Deleting bool     `json:"deleting,omitempty"`
	Range    []string `json:"range,omitempty"`
}
