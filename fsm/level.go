package fsm

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"havip-cluster/internal/limits"
)

// Levels let nodes of two releases live in one cluster. A node that meets an entry which
// it cannot read stops, so no such entry may be written while a member cannot read it.
//
// Each node reports the highest level that its program reads, as the suffix +level.N of
// Node.Version: a text that programs of level 1 carry along and do not look into. As soon
// as all members have reported a level, Cluster.Level rises to it, and never sinks; from
// then on nobody who reads less is admitted, and commands of that level are done. Both
// follow from the log alone, so there is no moment in which an older node could slip in
// behind a newer entry.
//
// A state of level 1 has only what level 1 knows: an older node can read its snapshot.

// CommandLevel is the highest level of commands that this program reads.
const CommandLevel = 4

const levelMark = "+level."

// VersionWithLevel is a program's version as a node reports it in Node.Version. It fits
// into MaxNameRunes bytes, at the cost of the version where that is long.
func VersionWithLevel(version string) string {
	suffix := levelMark + strconv.Itoa(CommandLevel)
	version, _ = SplitVersion(version)
	return clip(version, MaxNameRunes-len(suffix)) + suffix
}

// SplitVersion takes a reported version apart: the program's own and the level it reads,
// 1 where nothing is said.
func SplitVersion(reported string) (version string, level int) {
	version, digits, found := strings.Cut(reported, levelMark)
	n, err := strconv.Atoi(digits)
	if !found || err != nil || n < 1 || n > 1000 || strconv.Itoa(n) != digits {
		return reported, 1
	}
	return version, n
}

// CommandLevel is the highest level of commands that the node can read, as it reported.
func (n Node) CommandLevel() int {
	_, level := SplitVersion(n.Version)
	return level
}

// Level is the highest level of commands that the log may hold: 1 in a cluster that was
// made by a program without levels, until all of its nodes have been upgraded.
func (s *State) Level() int { return max(1, s.Cluster.Level) }

// raiseLevel follows a change of the nodes.
func (s *State) raiseLevel(c Command) {
	if len(s.Nodes) == 0 {
		return
	}
	lowest := CommandLevel
	for _, n := range s.Nodes {
		lowest = min(lowest, n.CommandLevel())
	}
	if lowest > s.Level() {
		before := s.Level()
		s.Cluster.Level = lowest
		if before < 3 && lowest >= 3 {
			s.guardAll()
		}
		if before < 4 && lowest >= 4 {
			s.holdCA()
		}
		s.note(c, "level", "", "", fmt.Sprintf("all nodes read commands of level %d: they may be used from now on", lowest))
	}
}

// Admits refuses a command that some member could not read, before it is proposed. Apply
// asks again, which protects nobody: the entry is in the log by then.
func (s *State) Admits(c Command) *Refusal {
	if s.Cluster.ID == "" {
		return nil // the first command
	}
	if err := c.open(); err != nil {
		return Refuse(CodeMalformed, "%v", err)
	}
	if need := c.needLevel(); need > s.Level() {
		return s.belowLevel(need)
	}
	return nil
}

// belowLevel names the nodes that keep the cluster below a level.
func (s *State) belowLevel(level int) *Refusal {
	var behind []string
	for _, n := range s.NodeList() {
		if n.CommandLevel() < level {
			behind = append(behind, n.Name)
		}
	}
	return Refuse(CodeLevel, "node %s runs a version that cannot read this (command level %d, it reads less): upgrade it first", strings.Join(behind, ", "), level)
}

// levelOf is the level of a body: that of its kind, of a field that is set, or of a value.
func levelOf(b Body) int {
	level := max(kindLevel(b.kind()), fieldLevel(reflect.ValueOf(b)))
	failback := ""
	switch b := b.(type) {
	case *Place:
		level = max(level, sizeLevel(len(b.Assignments)))
	case *CloseSession:
		level = max(level, sizeLevel(len(b.Place)))
	case *Release:
		level = max(level, sizeLevel(len(b.Claims)))
	case *CreateHAVIP:
		if failback = b.Failback; b.Disabled {
			level = max(level, 2)
		}
	case *SetLease:
		if shortLease(b.Lease) {
			level = max(level, 4)
		}
	case *InitCluster:
		if shortLease(b.Lease) {
			level = max(level, 4)
		}
	case *ReportEvent:
		if b.Kind == "drift" || b.Kind == "cloud" {
			level = max(level, 4)
		}
	case *UpdateHAVIP:
		if b.Failback != nil {
			failback = *b.Failback
		}
	}
	if f, refusal := ParseFailback(failback); refusal == nil && f.Kind == FailbackWindow {
		level = max(level, 2)
	}
	return level
}

// sizeLevel is the level of an entry about so many HAVIPs.
func sizeLevel(n int) int {
	if n > limits.AssignmentsLevel2 {
		return 3
	}
	return 1
}

// fieldLevel finds the highest `level` tag of a field that is not zero.
func fieldLevel(v reflect.Value) int {
	level := 1
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			level = fieldLevel(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		if !scalar(v.Type().Elem().Kind()) {
			for i := range v.Len() {
				level = max(level, fieldLevel(v.Index(i)))
			}
		}
	case reflect.Map:
		if !scalar(v.Type().Elem().Kind()) {
			for _, key := range v.MapKeys() {
				level = max(level, fieldLevel(v.MapIndex(key)))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || v.Field(i).IsZero() {
				continue
			}
			if tag, ok := f.Tag.Lookup("level"); ok {
				n, _ := strconv.Atoi(tag) // a test reads every tag
				level = max(level, n)
			} else if !scalar(f.Type.Kind()) {
				level = max(level, fieldLevel(v.Field(i)))
			}
		}
	}
	return level
}

// scalar says that a value of the kind has no fields.
func scalar(k reflect.Kind) bool {
	return k <= reflect.Complex128 || k == reflect.String
}

// shortLease reports whether a lease is one that members below level 4 refuse as too short.
func shortLease(d time.Duration) bool { return d >= limits.LeaseShortest && d < limits.LeaseLevel3 }
