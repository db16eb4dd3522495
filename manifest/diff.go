package manifest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Change is one difference between two manifests.
type Change struct {
	Kind string `json:"kind"` // havip, group, check, subnet, node, cluster
	Name string `json:"name"`
	Op   string `json:"op"` // add, remove, change
	// Field, Old and New tell a change; Old and New are in the form of a file.
	Field string `json:"field,omitempty"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

func (c Change) String() string {
	name := c.Kind
	if c.Name != "" {
		name += " " + c.Name
	}
	switch c.Op {
	case "add":
		return "+ " + name + " " + c.New
	case "remove":
		return "- " + name + " " + c.Old
	}
	return fmt.Sprintf("~ %s %s: %s -> %s", name, c.Field, orNothing(c.Old), orNothing(c.New))
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// Changes is a list in the order of a file.
type Changes []Change

func (cs Changes) String() string {
	var b strings.Builder
	for _, c := range cs {
		b.WriteString(c.String() + "\n")
	}
	return b.String()
}

// observed are the fields that tell what was there, which apply does not set.
var observed = map[string][]string{
	"havip":  {"owner", "last", "fails", "fail_ends", "gave_up", "draining", "deleting"},
	"node":   {"status", "role", "draining", "since", "stopping", "removing", "flapping", "health_reason"},
	"subnet": {"auto"},
	"check":  {"results"},
}

// Diff tells what applying wanted to a cluster that exports present would change. A kind
// that wanted says nothing of is left alone, and so are subnets that register themselves.
func Diff(present, wanted Manifest) Changes { return Between(present.Canonical(), wanted.Canonical()) }

// Between is Diff of two manifests that are in their canonical order, as FromState gives them.
func Between(present, wanted Manifest) Changes {
	var out Changes
	out = append(out, diffTop(present, wanted)...)
	if wanted.Nodes != nil {
		for _, n := range wanted.Nodes { // a node that is not named is left alone
			for _, old := range present.Nodes {
				if old.Name == n.Name {
					out = append(out, diffFields("node", n.Name, reflect.ValueOf(old), reflect.ValueOf(n))...)
				}
			}
		}
	}
	if wanted.Subnets != nil {
		auto := func(s Subnet) bool { return s.Auto }
		olds, news := slices.DeleteFunc(slices.Clone(present.Subnets), auto), slices.DeleteFunc(slices.Clone(wanted.Subnets), auto)
		out = append(out, diffList("subnet", olds, news, func(s Subnet) string { return s.Name })...)
	}
	if wanted.HAVIPs != nil {
		out = append(out, diffList("havip", matched(present.HAVIPs, wanted.HAVIPs), wanted.HAVIPs, havipKey)...)
	}
	if wanted.Groups != nil {
		out = append(out, diffList("group", present.Groups, wanted.Groups, func(g Group) string { return g.Name })...)
	}
	if wanted.Webhooks != nil {
		out = append(out, diffList("webhook", hidden(present.Webhooks), hidden(wanted.Webhooks), func(h Webhook) string { return h.Name })...)
	}
	if wanted.Checks != nil {
		out = append(out, diffList("check", present.Checks, wanted.Checks, func(c Check) string { return c.Name })...)
	}
	return out
}

func havipKey(h HAVIP) string { return h.Name + h.ID }

// matched gives the present HAVIPs the id, address and subnet that the wanted ones leave
// open, so that leaving them open is no change.
func matched(present, wanted []HAVIP) []HAVIP {
	out := slices.Clone(present)
	byID, byName := map[string]HAVIP{}, map[string]HAVIP{}
	for _, w := range wanted {
		if w.ID != "" {
			byID[w.ID] = w
		} else {
			byName[w.Name] = w
		}
	}
	for i := range out {
		w, found := byID[out[i].ID]
		if !found {
			w, found = byName[out[i].Name]
		}
		if found {
			out[i].ID, out[i].Name = w.ID, w.Name
			keep(&out[i].IP, w.IP)
			keep(&out[i].Subnet, w.Subnet)
			keep(&out[i].VPC, w.VPC)
		}
	}
	return out
}

func keep(present *string, wanted string) {
	if wanted == "" {
		*present = ""
	}
}

func diffTop(present, wanted Manifest) Changes {
	var out Changes
	top := func(field string, said bool, old, now any) {
		if o, n := text(old), text(now); said && o != n {
			out = append(out, Change{Kind: "cluster", Op: "change", Field: field, Old: o, New: n})
		}
	}
	valueOf := func(b *bool) bool { return b != nil && *b }
	limits := func(l *Limits) Limits {
		if l == nil {
			return Limits{}
		}
		return *l
	}
	rebalance := func(s string) string {
		if s == "" {
			return "never"
		}
		return s
	}
	top("maintenance", wanted.Maintenance != nil, valueOf(present.Maintenance), valueOf(wanted.Maintenance))
	top("limits", wanted.Limits != nil, limits(present.Limits), limits(wanted.Limits))
	top("rebalance", wanted.Rebalance != "", rebalance(present.Rebalance), rebalance(wanted.Rebalance))
	return out
}

// text is a value in the form of a file.
func text(v any) string {
	w := &yamlWriter{}
	w.flow(reflect.ValueOf(v))
	return w.String()
}

func diffList[T any](kind string, old, wanted []T, key func(T) string) Changes {
	var out Changes
	kept := map[string]bool{}
	for _, w := range wanted {
		kept[key(w)] = true
	}
	for _, o := range old {
		if !kept[key(o)] {
			out = append(out, Change{Kind: kind, Name: nameOf(o), Op: "remove", Old: desired(kind, reflect.ValueOf(&o).Elem())})
		}
	}
	byKey := map[string]T{}
	for _, o := range old {
		byKey[key(o)] = o
	}
	for _, w := range wanted {
		o, found := byKey[key(w)]
		if !found {
			out = append(out, Change{Kind: kind, Name: nameOf(w), Op: "add", New: desired(kind, reflect.ValueOf(&w).Elem())})
			continue
		}
		out = append(out, diffFields(kind, nameOf(w), reflect.ValueOf(o), reflect.ValueOf(w))...)
	}
	return out
}

func nameOf(v any) string { return reflect.ValueOf(v).FieldByName("Name").String() }

// desired is a value in the form of a file, without what was only observed.
func desired(kind string, v reflect.Value) string {
	w := &yamlWriter{}
	w.fields(v, observed[kind])
	return w.String()
}

func diffFields(kind, name string, old, wanted reflect.Value) Changes {
	var out Changes
	for _, f := range fieldsOf(wanted.Type()) {
		o, w := old.FieldByIndex(f.index), wanted.FieldByIndex(f.index)
		if f.name == "name" || f.name == "id" || slices.Contains(observed[kind], f.name) {
			continue
		}
		if a, b := valueText(o), valueText(w); a != b {
			out = append(out, Change{Kind: kind, Name: name, Op: "change", Field: f.name, Old: a, New: b})
		}
	}
	return out
}

func valueText(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
	case reflect.Slice, reflect.Map, reflect.String:
		if v.Len() == 0 {
			return ""
		}
	}
	return text(v.Interface())
}
