package havip

import "time"

// Defaults and bounds of the settings.
const (
	DefaultStickiness = 1 // any gain of score is worth a move, an even spread is not
	DefaultWeight     = 1
	DefaultFailLimit  = 3
	// DefaultFailPeriod is how long it takes until one failure is forgotten, FailPeriodMax the
	// longest time, in seconds.
	DefaultFailPeriod = 10 * time.Minute
	FailPeriodMax     = 30 * 24 * 3600
	// ScoreLimit bounds each score and weight.
	ScoreLimit = 1000000
	// DescriptionMax is the most bytes of a description.
	DescriptionMax = 256
	// TargetsMax is how many nodes and ENIs one setting may name.
	TargetsMax = 64
	// FailbackMax is the longest delay of a failback.
	FailbackMax = 24 * time.Hour
)

// Spec is what an operator says of a HAVIP, as the log and the snapshot keep it. The zero value
// means the defaults, and an absent field the default of that setting. The tag level is the level of
// commands (package fsm) from which on a field may be in the log.
type Spec struct {
	// Prefer is by node name or ENI id, -ScoreLimit..ScoreLimit.
	Prefer   map[string]int `json:"prefer,omitempty"`
	Failback string         `json:"failback,omitempty"` // as ParseFailback reads it
	Priority int            `json:"priority,omitempty"` // -ScoreLimit..ScoreLimit
	// Require names the only targets (node names or ENI ids) that may own, Forbid those that
	// never may; no target in both.
	Require []string `json:"require,omitempty" level:"2"`
	Forbid  []string `json:"forbid,omitempty" level:"2"`
	// Stickiness, Weight and FailLimit are 0..ScoreLimit; nil = the default.
	Stickiness *int `json:"stickiness,omitempty" level:"2"`
	Weight     *int `json:"weight,omitempty" level:"2"`
	FailLimit  *int `json:"fail_limit,omitempty" level:"2"`
	// Disabled has no level: version 1 knew it of a HAVIP, and only a creation did not.
	Disabled    bool `json:"disabled,omitempty"`
	Unmanaged   bool `json:"unmanaged,omitempty" level:"2"`
	Maintenance bool `json:"maintenance,omitempty" level:"2"`
	// Description is one line of text, at most DescriptionMax bytes.
	Description string `json:"description,omitempty" level:"4"`
	// Probe is as ParseProbe reads it.
	Probe string `json:"probe,omitempty" level:"4"`
	// FailPeriod is in seconds, 0..FailPeriodMax; 0 = DefaultFailPeriod.
	FailPeriod int `json:"fail_period,omitempty" level:"4"`
}

// Change is what a caller says of some settings, in a creation or a change; nil is not said. Its
// tag doc is the sentence of each setting wherever one is shown.
type Change struct {
	Prefer      *map[string]int `json:"prefer,omitempty" doc:"NODE=SCORE or ENI=SCORE: a wish; a change replaces all"`
	Failback    *string         `json:"failback,omitempty" doc:"When it may go back to a better place: never, immediate, a delay such as 5m, or a daily window in UTC such as 02:00-04:00"`
	Priority    *int            `json:"priority,omitempty" doc:"HAVIPs of higher priority are placed first"`
	Enabled     *bool           `json:"enabled,omitempty" doc:"false: nobody owns it"`
	Require     *[]string       `json:"require,omitempty" level:"2" doc:"Nodes or ENIs; nobody else may own it; a change replaces all"`
	Forbid      *[]string       `json:"forbid,omitempty" level:"2" doc:"Nodes or ENIs that never may own it; a change replaces all"`
	Stickiness  *int            `json:"stickiness,omitempty" level:"2" doc:"The gain of score that is worth a move"`
	Weight      *int            `json:"weight,omitempty" level:"2" doc:"What it takes of a node's capacity"`
	FailLimit   *int            `json:"fail_limit,omitempty" level:"2" doc:"Failures on a node that bar it; 0: none do"`
	Managed     *bool           `json:"managed,omitempty" level:"2" doc:"false: it is left where it is, whatever happens"`
	Maintenance *bool           `json:"maintenance,omitempty" level:"2" doc:"true: nothing moves it"`
	Description *string         `json:"description,omitempty" level:"4" doc:"One line for people: what it is for, whom to ask"`
	Probe       *string         `json:"probe,omitempty" level:"4" doc:"For load balancers: tcp:PORT or http:PORT/PATH at the nodes' own addresses, answered by the owner alone"`
	FailPeriod  *int            `json:"fail_period,omitempty" level:"4" doc:"Seconds after which one failure is forgotten; 0: 600"`
}

// View is every setting with its default filled in, as the API answers and as a manifest says it.
// The tag m is for the manifest: "omit" leaves the zero value out.
type View struct {
	Require     []string       `json:"require" m:"omit"`
	Forbid      []string       `json:"forbid" m:"omit"`
	Prefer      map[string]int `json:"prefer" m:"omit"`
	Stickiness  int            `json:"stickiness"`
	Failback    string         `json:"failback"`
	Priority    int            `json:"priority"`
	Weight      int            `json:"weight"`
	FailLimit   int            `json:"fail_limit"`
	Enabled     bool           `json:"enabled"`
	Managed     bool           `json:"managed"`
	Maintenance bool           `json:"maintenance" m:"omit"`
	Description string         `json:"description,omitempty" m:"omit"`
	Probe       string         `json:"probe,omitempty" m:"omit"`
	FailPeriod  int            `json:"fail_period,omitempty" m:"omit"`
}

// Sticky is the gain of score that is worth a move.
func (s Spec) Sticky() int { return valueOr(s.Stickiness, DefaultStickiness) }

// Takes is what the HAVIP takes of a node's capacity.
func (s Spec) Takes() int { return valueOr(s.Weight, DefaultWeight) }

// FailureLimit is the count of failures that bars a node; 0 = no bar.
func (s Spec) FailureLimit() int { return valueOr(s.FailLimit, DefaultFailLimit) }

// FailsAfter is how long it takes until one failure is forgotten.
func (s Spec) FailsAfter() time.Duration {
	if s.FailPeriod <= 0 {
		return DefaultFailPeriod
	}
	return time.Duration(s.FailPeriod) * time.Second
}

func valueOr(p *int, otherwise int) int {
	if p == nil {
		return otherwise
	}
	return *p
}
