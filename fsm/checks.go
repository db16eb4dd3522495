package fsm

import (
	"time"

	"havip-cluster/fsm/placement"
	"havip-cluster/internal/limits"
)

// Checks of services. The definition is agreed on and the same everywhere; each node runs it
// and reports its result when that changes, which the placement then looks at.

// CheckType says what a check looks at, and what its Target is.
type CheckType string

const (
	CheckTCP     CheckType = "tcp"     // HOST:PORT that takes a connection
	CheckHTTP    CheckType = "http"    // a URL, http or https, that answers as expected
	CheckExec    CheckType = "exec"    // the name of a program that root allowed on the node
	CheckProcess CheckType = "process" // the name of a running process, or pidfile:PATH
	CheckFile    CheckType = "file"    // the path of a file that is there, with a content or of an age
	CheckPing    CheckType = "ping"    // an address that answers ICMP
	CheckARP     CheckType = "arp"     // an address that answers ARP or neighbour solicitation
	CheckSystemd CheckType = "systemd" // a unit that is active
)

// CheckTypes are all of them, sorted.
var CheckTypes = []CheckType{CheckARP, CheckExec, CheckFile, CheckHTTP, CheckPing, CheckProcess, CheckSystemd, CheckTCP}

// CheckState is passing, failing or unknown.
type CheckState = placement.CheckState

const (
	CheckPassing = placement.CheckPassing
	CheckFailing = placement.CheckFailing
	CheckUnknown = placement.CheckUnknown
)

// Defaults and bounds of a check's settings.
const (
	DefaultCheckInterval = 2 * time.Second
	DefaultCheckTimeout  = time.Second
	DefaultCheckRise     = 2
	DefaultCheckFall     = 3
	CheckIntervalMin     = 100 * time.Millisecond
	CheckIntervalMax     = time.Hour
	CheckTimeoutMin      = 10 * time.Millisecond
	CheckTimeoutMax      = 5 * time.Minute
	CheckGraceMax        = time.Hour
	CheckAgeMax          = 366 * 24 * time.Hour
	CheckCountMax        = 100 // of rise, and of fall
	MaxChecks            = limits.Checks
	MaxCheckHAVIPs       = MaxGroupMembers
	MaxCheckText         = 512 // bytes of a target, a body, a content or a header
	MaxCheckHeaders      = 8
	MaxCheckOutput       = limits.CheckOutput // bytes of a result's output
	// maxCheckEvents is how many results of one report get an event of their own.
	maxCheckEvents = 20
)

// Check is a check as it is agreed on. Intervals are of the node's own clock.
type Check struct {
	Name   string    `json:"name"` // unique
	Type   CheckType `json:"type"`
	Target string    `json:"target"`
	// Interval is from one run to the next, Timeout bounds one run: what answers later than
	// that has failed, and nothing sooner. Timeout is at most Interval.
	Interval time.Duration `json:"interval"`
	Timeout  time.Duration `json:"timeout"`
	// Rise is after how many good runs in a row it passes, Fall after how many bad ones it fails.
	Rise int `json:"rise"`
	Fall int `json:"fall"`
	// Grace is for how long after its start on a node a bad run says nothing; 0 = it counts at once.
	Grace time.Duration `json:"grace,omitempty"`
	// Score is added to each place on a node where it fails, -1 to -ScoreLimit; 0 = it bars the node.
	Score int `json:"score,omitempty"`
	// Nodes are the names of those that run it, sorted; none = every node that may own a HAVIP.
	Nodes []string `json:"nodes,omitempty"`
	// HAVIPs are the ids of those that it is about, sorted; none = all. In a Config they are names.
	HAVIPs []string `json:"havips,omitempty"`
	// Drop leaves a HAVIP without an owner where it fails everywhere, see placement.WhenAllFail.
	Drop bool `json:"drop,omitempty"`

	// Of type http: the statuses that are good, such as 200-399,401; what the answer's body has
	// to hold; headers that are sent ("Name: value"); the TLS server name; and whether the
	// certificate has to be one that the node trusts.
	Status  string   `json:"status,omitempty"`
	Body    string   `json:"body,omitempty"`
	Headers []string `json:"headers,omitempty"`
	SNI     string   `json:"sni,omitempty"`
	Verify  bool     `json:"verify,omitempty"`
	// Of type file: what it has to hold, and how long ago it may have been written at most.
	Content string        `json:"content,omitempty"`
	MaxAge  time.Duration `json:"max_age,omitempty"`

	// Revision is the index of the entry that wrote the definition; 0 in commands and in a
	// Config. A result of another one says nothing.
	Revision uint64 `json:"revision,omitempty"`
}

// CheckResult is the last result of a check that a node has reported.
type CheckResult struct {
	Check    string     `json:"check"`
	Revision uint64     `json:"revision"` // of the definition that was run
	Session  uint64     `json:"session"`  // of the node, when it reported
	State    CheckState `json:"state"`
	Output   string     `json:"output,omitempty"` // one line, at most MaxCheckOutput bytes
	Since    int64      `json:"since"`            // Command.At of the change
}

// CreateCheck makes a check; what it leaves out has its default. HAVIPs are ids or names.
type CreateCheck struct {
	Check Check `json:"check"`
}

// UpdateCheck replaces the definition of the check of that name, whole.
type UpdateCheck struct {
	Check Check `json:"check"`
	// Expected is the Revision that the caller has seen; 0 = any.
	Expected uint64 `json:"expected,omitempty"`
}

// DeleteCheck forgets a check and its results.
type DeleteCheck struct {
	Name string `json:"name"`
}

// ReportChecks is a node's own word about its checks: those whose state has changed. It is
// refused unless Session is the node's present one.
type ReportChecks struct {
	Node    string           `json:"node"` // id
	Session uint64           `json:"session"`
	Results []ReportedResult `json:"results"` // at most MaxChecks
}

// ReportedResult is one result. One of a check that has gone, or of another definition, is ignored.
type ReportedResult struct {
	Check    string     `json:"check"`
	Revision uint64     `json:"revision"`
	State    CheckState `json:"state"`
	Output   string     `json:"output,omitempty"`
}

func (CreateCheck) kind() string  { return "create-check" }
func (UpdateCheck) kind() string  { return "update-check" }
func (DeleteCheck) kind() string  { return "delete-check" }
func (ReportChecks) kind() string { return "report-checks" }

// checkBodies are kinds of level 4.
func checkBodies() []Body {
	return []Body{&CreateCheck{}, &UpdateCheck{}, &DeleteCheck{}, &ReportChecks{}}
}

// CheckList returns the checks in the order of their names.
func (s *State) CheckList() []Check { return sorted(s.Checks) }

// RunsOn says whether a node runs the check: a witness never does, because it owns nothing.
func (k Check) RunsOn(n Node) bool {
	if n.Role == RoleWitness {
		return false
	}
	if len(k.Nodes) == 0 {
		return true
	}
	for _, name := range k.Nodes {
		if name == n.Name {
			return true
		}
	}
	return false
}

// Bars says that a node where it fails is no sound place.
func (k Check) Bars() bool { return k.Score == 0 }
