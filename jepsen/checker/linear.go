package checker

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"havip-cluster/jepsen/history"
)

// searchTime bounds the search for one HAVIP; a search that does not end is unknown.
const searchTime = 2 * time.Minute

// Linearizable checks the API against a model of one HAVIP (its life, its switch, its range and its
// epochs), for each name by itself, and the index of all linearizable answers together: an answer
// that was asked for after another one had come must not be made from an older state.
//
// It is unknown without a successful read and a successful change.
func Linearizable(h *history.History) Verdict {
	v := Verdict{Check: "API linearizable", Message: "no operation was recorded"}
	if message := staleIndex(h.Ops); message != "" {
		v.Valid, v.Message = Invalid, message
		return v
	}
	byName := map[string][]porcupine.Operation{}
	count := map[history.Outcome]int{}
	reads, changes := 0, 0
	for _, op := range h.Ops {
		step, ok := linearOp(op)
		if !ok {
			continue
		}
		byName[op.Key] = append(byName[op.Key], step)
		count[op.Outcome]++
		switch answered := op.Outcome == history.OK || strings.HasPrefix(op.Code, codeNotFound); {
		case answered && op.Verb == history.VerbRead:
			reads++
		case op.Outcome == history.OK:
			changes++
		}
	}
	model := havipModel.ToModel()
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		switch porcupine.CheckOperationsTimeout(model, byName[name], searchTime) {
		case porcupine.Illegal:
			v.Valid, v.Message = Invalid, fmt.Sprintf("no order of the %d operations on %s explains their answers", len(byName[name]), name)
			return v
		case porcupine.Unknown:
			v.Message = fmt.Sprintf("the search over %d operations on %s did not end within %v", len(byName[name]), name, searchTime)
			return v
		}
	}
	if reads == 0 || changes == 0 {
		v.Message = fmt.Sprintf("%d reads and %d changes succeeded: nothing was put to the test", reads, changes)
		return v
	}
	v.Valid = Valid
	v.Message = fmt.Sprintf("%d HAVIPs, %d operations ok (%d reads), %d refused, %d unknown",
		len(byName), count[history.OK], reads, count[history.Fail], count[history.Unknown])
	return v
}

// staleIndex finds an answer made from an older state than one that had come before it was asked for.
func staleIndex(ops []history.Op) string {
	var answers []history.Op
	for _, op := range ops {
		if op.Outcome == history.OK && op.Index > 0 && !stale(op.Verb) {
			answers = append(answers, op)
		}
	}
	returned := byReturn(answers)
	asked := slices.SortedStableFunc(slices.Values(answers), func(a, b history.Op) int { return cmp.Compare(a.Invoke, b.Invoke) })
	var newest history.Op
	next := 0
	for _, op := range asked {
		for ; next < len(returned) && returned[next].Return < op.Invoke; next++ {
			if returned[next].Index > newest.Index {
				newest = returned[next]
			}
		}
		if op.Index < newest.Index {
			return fmt.Sprintf("%s of %s at %s, asked for at %v, was answered from index %d, though index %d had been shown by %s at %v",
				op.Verb, op.Key, op.Node, ns(op.Invoke), op.Index, newest.Index, newest.Node, ns(newest.Return))
		}
	}
	return ""
}

// call is the input of the model.
type call struct {
	verb    string
	request history.Request
}

// outcome is its output.
type outcome struct {
	outcome history.Outcome
	code    string
	view    history.HAVIP // zero: the answer showed none
}

// linearOp makes an operation of the model. What has no part in it is left out: stale reads, and
// moves and reads without an answer, which change nothing that the model holds.
func linearOp(op history.Op) (porcupine.Operation, bool) {
	switch op.Verb {
	case history.VerbCreate, history.VerbDelete, history.VerbEnable, history.VerbDisable, history.VerbRange:
	case history.VerbRead, history.VerbMove:
		if op.Outcome == history.Unknown {
			return porcupine.Operation{}, false
		}
	default:
		return porcupine.Operation{}, false
	}
	in, out := call{verb: op.Verb}, outcome{outcome: op.Outcome, code: op.Code}
	if len(op.Input) > 0 && json.Unmarshal(op.Input, &in.request) != nil {
		return porcupine.Operation{}, false
	}
	out.view, _ = shownHAVIP(op)
	end := op.Return
	if op.Outcome == history.Unknown {
		end = math.MaxInt64
	}
	return porcupine.Operation{Input: in, Output: out, Call: op.Invoke, Return: end}, true
}

// The phases of a HAVIP. One that is being deleted goes by itself when its owner has released it.
const (
	absent = iota
	present
	deleting
)

// object is the state of the model: one HAVIP name.
type object struct {
	phase   int
	id      string // empty: not shown yet
	enabled bool
	members string // of the range, sorted
	epoch   uint64
	owner   string
}

var havipModel = porcupine.NondeterministicModel{
	Init: func() []any { return []any{object{}} },
	Step: func(state, input, output any) []any {
		s, in, out := state.(object), input.(call), output.(outcome)
		switch out.outcome {
		case history.OK:
			return s.succeed(in, out.view)
		case history.Fail:
			return s.refuse(in, out.code)
		default: // with effect or without
			return append([]any{s}, s.succeed(in, history.HAVIP{})...)
		}
	},
	Equal: func(a, b any) bool { return a.(object) == b.(object) },
}

// succeed returns the states after an operation was done; none if it cannot have been.
//
// The answer to a change is made from a state at or after it, so of what it shows only the
// identity is used. The answer to a read is the state at one instant.
func (s object) succeed(in call, view history.HAVIP) []any {
	switch in.verb {
	case history.VerbCreate:
		if s.phase == present {
			return nil
		}
		return []any{object{phase: present, id: view.ID, enabled: true, members: members(in.request.Range)}}
	case history.VerbRead:
		return s.read(view)
	}
	if s.phase == absent || (view.ID != "" && s.id != "" && view.ID != s.id) {
		return nil
	}
	s.id = cmp.Or(s.id, view.ID)
	switch in.verb {
	case history.VerbDelete:
		s.phase = deleting
	case history.VerbEnable, history.VerbDisable:
		s.enabled = in.verb == history.VerbEnable
	case history.VerbRange:
		s.members = changed(s.members, in.request)
	}
	return []any{s}
}

func (s object) read(view history.HAVIP) []any {
	switch {
	case s.phase == absent, s.id != "" && view.ID != s.id, view.Deleting != (s.phase == deleting):
		return nil
	case view.Enabled != s.enabled, members(view.Range) != s.members:
		return nil
	case view.Epoch < s.epoch, view.Epoch == s.epoch && s.owner != "" && view.Node != "" && view.Node != s.owner:
		return nil
	}
	if view.Epoch > s.epoch || view.Node != "" {
		s.owner = view.Node
	}
	s.id, s.epoch = view.ID, view.Epoch
	return []any{s}
}

// The refusals that say something about the state.
const (
	codeNotFound  = "ResourceNotFound"
	codeDuplicate = ".Duplicate"
)

func (s object) refuse(in call, code string) []any {
	switch {
	case strings.HasPrefix(code, codeNotFound) && (in.verb == history.VerbCreate || in.verb == history.VerbRange || in.verb == history.VerbMove):
		// It may be a node that is not there, or not in the range: nothing is said of the HAVIP.
	case strings.HasPrefix(code, codeNotFound) && s.phase == present:
		return nil
	case strings.HasPrefix(code, codeNotFound):
		return []any{object{}}
	case strings.HasSuffix(code, codeDuplicate) && in.verb == history.VerbCreate && s.phase == absent:
		return nil
	}
	return []any{s}
}

func members(list []string) string {
	list = slices.Sorted(slices.Values(list))
	return strings.Join(slices.Compact(list), ",")
}

func changed(have string, r history.Request) string {
	list := append(strings.Split(have, ","), r.Add...)
	list = slices.DeleteFunc(list, func(m string) bool { return m == "" || slices.Contains(r.Remove, m) })
	return members(list)
}
