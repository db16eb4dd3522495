// Package checker judges a recorded history. Its functions are pure: the same history
// gives the same verdict, and nothing but the history counts.
//
// A verdict is valid, invalid or unknown. Unknown is no pass: a world in which nothing
// moved breaks no rule either.
package checker

import (
	"fmt"
	"strings"
)

// Validity is the three-valued outcome of a check; its zero value is Unknown, so that a
// verdict nobody filled in does not pass.
type Validity int

// The validities, from "cannot tell" on.
const (
	Unknown Validity = iota
	Valid
	Invalid
)

func (v Validity) String() string {
	switch v {
	case Valid:
		return "valid"
	case Invalid:
		return "invalid"
	default:
		return "unknown"
	}
}

// Verdict is the result of one check and its reason.
type Verdict struct {
	Check   string
	Valid   Validity
	Message string
}

func (v Verdict) String() string { return fmt.Sprintf("%s: %s: %s", v.Check, v.Valid, v.Message) }

// Pass reports whether the check was made and found nothing.
func (v Verdict) Pass() bool { return v.Valid == Valid }

// Worst composes verdicts: invalid if one is, else unknown if one is or if there are
// none, else valid. Its message lists every verdict.
func Worst(verdicts ...Verdict) Verdict {
	worst := Verdict{Check: "all", Valid: Valid}
	if len(verdicts) == 0 {
		return Verdict{Check: "all", Message: "nothing was checked"}
	}
	var lines []string
	for _, v := range verdicts {
		lines = append(lines, v.String())
		if v.Valid == Invalid || (v.Valid == Unknown && worst.Valid == Valid) {
			worst.Valid = v.Valid
		}
	}
	worst.Message = strings.Join(lines, "; ")
	return worst
}
