package pacemaker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"havip-cluster/manifest"
)

// verdict is whether a rule holds for a node now.
type verdict int

const (
	unknown verdict = iota
	no
	yes
)

func verdictOf(holds bool) verdict {
	if holds {
		return yes
	}
	return no
}

// facts is what a rule was found to rest on.
type facts struct {
	ping    string   // a measured attribute; it is taken as if the target answered
	pinged  []string // those of them that a resource of this CIB measures
	reached map[string]int
	until   time.Time // the rule ends by itself
	past    time.Time // it ended by itself
	later   time.Time // it begins by itself
	times   bool      // it holds at times of the day or the week
	strange string    // what cannot be told here
	ofAgent bool      // it asks for the agent of a resource
}

// ofAgent decides a rsc_expression of the defaults of resources.
func (r *reader) ofAgent(e *element, f *facts) verdict {
	f.ofAgent = true
	if r.agent == nil {
		return unknown
	}
	for _, k := range []struct{ want, have string }{{e.attr("class"), r.agent.class}, {e.attr("provider"), r.agent.provider}, {e.attr("type"), r.agent.kind}} {
		if k.want != "" && k.want != k.have {
			return no
		}
	}
	return yes
}

// rule says whether a rule holds for a node; an id-ref stands for another one.
func (r *reader) rule(e *element, node string, f *facts) verdict {
	if ref := e.attr("id-ref"); ref != "" && r.byID[ref] != nil && r.byID[ref] != e {
		e = r.byID[ref]
	}
	either := e.attr("boolean-op") == "or"
	all := yes // the neutral element
	if either {
		all = no
	}
	for _, k := range e.kids {
		v := unknown
		switch k.name {
		case "rule":
			if k.attr("id-ref") == "" { // a reference inside a rule could turn in a circle
				v = r.rule(k, node, f)
			}
		case "expression":
			v = r.expression(k, node, f)
		case "date_expression":
			v = r.date(k, f)
		case "rsc_expression":
			v = r.ofAgent(k, f)
		default:
			f.strange = k.name
		}
		switch {
		case either && v == yes, !either && v == no:
			return v
		case v == unknown:
			all = unknown
		}
	}
	return all
}

// measured says whether an attribute tells how well a node reaches something.
func measured(attribute string) bool {
	return strings.Contains(attribute, "ping") || strings.Contains(attribute, "ethmonitor") || strings.Contains(attribute, "connectivity")
}

// expression compares an attribute of a node: its name, its kind, one that the CIB has for
// good, or one that ping measures.
func (r *reader) expression(e *element, node string, f *facts) verdict {
	attribute, operation, want := e.attr("attribute"), e.attr("operation"), e.attr("value")
	var have string
	there := true
	switch {
	case node == "":
		f.strange = "expression " + attribute
		return unknown
	case attribute == "#uname" || attribute == "#id" && r.attributes[manifest.NodeName(want)] != nil:
		have, want = node, manifest.NodeName(want)
	case attribute == "#kind":
		have = "cluster"
	case r.pings[attribute] != nil || measured(attribute):
		have = strconv.Itoa(Infinity)
		if p := r.pings[attribute]; p != nil {
			f.pinged = append(f.pinged, attribute)
			if have = strconv.Itoa(p.multiplier * len(p.hosts)); f.reached != nil {
				have = strconv.Itoa(f.reached[attribute])
			}
			break
		}
		f.ping = attribute + " " + operation
	case r.permanent(attribute):
		have, there = r.attributes[node][attribute]
	default:
		f.strange = "expression " + attribute
		return unknown
	}
	switch operation {
	case "defined":
		return verdictOf(there)
	case "not_defined":
		return verdictOf(!there)
	case "eq":
		return verdictOf(there && have == want)
	case "ne":
		return verdictOf(!there || have != want)
	}
	order := strings.Compare(have, want)
	x, errX := strconv.ParseFloat(have, 64)
	y, errY := strconv.ParseFloat(want, 64)
	if errX == nil && errY == nil {
		order = int(max(-1, min(1, x-y)))
		if x != y && order == 0 {
			order = 1
			if x < y {
				order = -1
			}
		}
	}
	switch operation {
	case "lt":
		return verdictOf(there && order < 0)
	case "lte":
		return verdictOf(there && order <= 0)
	case "gt":
		return verdictOf(there && order > 0)
	case "gte":
		return verdictOf(there && order >= 0)
	}
	f.strange = "operation " + operation
	return unknown
}

// permanent says whether some node has an attribute for good.
func (r *reader) permanent(attribute string) bool {
	for _, attrs := range r.attributes {
		if _, there := attrs[attribute]; there {
			return true
		}
	}
	return false
}

// date decides a date_expression; the first day of a year and a weekday are none of a date.
func (r *reader) date(e *element, f *facts) verdict {
	start, startOK := moment(e.attr("start"))
	end, endOK := moment(e.attr("end"))
	operation := e.attr("operation")
	switch {
	case operation == "date_spec":
		f.times = true
		return unknown
	case !startOK || !endOK, operation == "in_range" && e.child("duration") != nil:
		f.strange = "date_expression"
		return unknown
	case (operation == "lt" || operation == "in_range") && !end.IsZero() && !r.now.Before(end):
		f.past = end
		return no
	case (operation == "gt" || operation == "in_range") && !start.IsZero() && !r.now.After(start):
		f.later = start
		return no
	case operation == "lt" || operation == "gt" || operation == "in_range":
		if operation != "gt" && !end.IsZero() && (f.until.IsZero() || end.Before(f.until)) {
			f.until = end
		}
		return yes
	}
	f.strange = "date_expression " + operation
	return unknown
}

// moment reads a date as Pacemaker writes it; "" is the zero time. ok is false for another.
func moment(text string) (at time.Time, ok bool) {
	if text == "" {
		return at, true
	}
	for _, layout := range []string{
		"2006-01-02 15:04:05 -07:00", "2006-01-02 15:04:05Z", "2006-01-02 15:04:05Z07:00", time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05",
		"2006-01-02T15:04Z07:00", "2006-01-02 15:04", "2006-01-02", "2006-002", "20060102", "20060102T150405Z",
	} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), true
		}
	}
	return at, false
}

// reason says why a rule is left out.
func (f facts) reason() string {
	day := func(t time.Time) string { return t.Format(time.RFC3339) }
	switch {
	case f.times:
		return "holds at times only; a daily window is a failback such as 02:00-04:00"
	case f.strange != "":
		return fmt.Sprintf("the rule on %s cannot be told by a node's name", f.strange)
	case !f.past.IsZero():
		return "ended on " + day(f.past) + " and is past"
	case !f.later.IsZero():
		return "begins on " + day(f.later) + "; make it then"
	}
	return "holds on no node"
}
