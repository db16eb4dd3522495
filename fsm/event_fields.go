package fsm

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Bounds of what an event says of a change.
const (
	MaxEventFields = 16
	MaxFieldValue  = 120 // bytes
)

// explainChange gives the first event of an entry what a command changed about one object: old and
// new value of each field. before is the state without the command.
func (s *State) explainChange(before *State, c Command) {
	if s.Level() < 4 || len(s.Events) == 0 || s.Events[len(s.Events)-1].Index != s.Index {
		return
	}
	old, now := s.changed(before, c.body)
	if old == nil {
		return
	}
	fields := fieldChanges(old, now)
	if len(fields) == 0 {
		return
	}
	first := len(s.Events) - 1
	for first > 0 && s.Events[first-1].Index == s.Index {
		first--
	}
	events := slices.Clone(s.Events) // the states before share the array
	events[first].Fields = fields
	s.Events = events
}

// explainPlaced gives the event about a change of owner, which was made last, the owner and the epoch.
func (s *State) explainPlaced(from string, v HAVIP) {
	if s.Level() < 4 || s.batch != nil {
		return
	}
	to := ""
	if v.Owner != nil {
		to = v.Owner.ENI
	}
	s.Events[len(s.Events)-1].Fields = fieldChanges(placedFields{v.Epoch - 1, from}, placedFields{v.Epoch, to})
}

type placedFields struct {
	Epoch Epoch  `json:"epoch"`
	ENI   string `json:"eni"`
}

// changed is the one object that a command is about, before and after; nil for other commands.
func (s *State) changed(before *State, b Body) (old, now any) {
	havip := func(id string) (any, any) { return before.HAVIPs[id], s.HAVIPs[id] }
	node := func(id string) (any, any) { return before.Nodes[id], s.Nodes[id] }
	switch b := b.(type) {
	case *UpdateHAVIP:
		return havip(b.ID)
	case *ChangeRange:
		return havip(b.ID)
	case *BanHAVIP:
		return havip(b.ID)
	case *UnbanHAVIP:
		return havip(b.ID)
	case *BindEIP:
		return havip(b.ID)
	case *UnbindEIP:
		return havip(b.ID)
	case *UpdateNode:
		return node(b.ID)
	case *DrainNode:
		return node(b.ID)
	case *ActivateNode:
		return node(b.ID)
	case *ReportHealth:
		return node(b.Node)
	case *SetENI:
		return before.ENIs[b.ID], s.ENIs[b.ID]
	case *SetCluster, *SetLease:
		return before.Cluster, s.Cluster
	}
	return nil, nil
}

// fieldChanges compares two objects of one type by their JSON.
func fieldChanges(old, now any) (out []FieldChange) {
	a, b := fieldsOf(old), fieldsOf(now)
	names := maps.Clone(a)
	maps.Copy(names, b)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if bytes.Equal(a[name], b[name]) || name == "revision" || name == "keys" {
			continue // counted, or secret enough
		}
		if out = append(out, FieldChange{Field: name, Old: clip(string(a[name]), MaxFieldValue), New: clip(string(b[name]), MaxFieldValue)}); len(out) == MaxEventFields {
			break
		}
	}
	return out
}

func fieldsOf(v any) map[string]json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("fsm: " + err.Error()) // the types of the state can be encoded
	}
	out := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &out); err != nil {
		panic("fsm: " + err.Error())
	}
	return out
}
