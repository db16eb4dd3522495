package checker

import (
	"encoding/json"
	"testing"

	"havip-cluster/jepsen/history"
)

// book writes operations, one a millisecond and each done before the next begins, unless said otherwise.
type book struct {
	ops []history.Op
	now int64
}

func (b *book) op(verb string, outcome history.Outcome, view *history.HAVIP, edit ...func(*history.Op)) *book {
	b.now += tms
	op := history.Op{Client: "c", Node: "a", Verb: verb, Key: "v", Invoke: b.now, Return: b.now + tms/2, Outcome: outcome}
	if view != nil {
		op.Output, _ = json.Marshal(view)
	}
	if outcome == history.Unknown {
		op.Return = 0
	}
	for _, e := range edit {
		e(&op)
	}
	b.ops = append(b.ops, op)
	return b
}

func (b *book) history() *history.History { return &history.History{Ops: b.ops} }

func input(r history.Request) func(*history.Op) {
	return func(op *history.Op) { op.Input, _ = json.Marshal(r) }
}
func code(c string) func(*history.Op)     { return func(op *history.Op) { op.Code = c } }
func index(i uint64) func(*history.Op)    { return func(op *history.Op) { op.Index = i } }
func at(node string) func(*history.Op)    { return func(op *history.Op) { op.Node = node } }
func until(ret int64) func(*history.Op)   { return func(op *history.Op) { op.Return = ret * tms } }
func named(name string) func(*history.Op) { return func(op *history.Op) { op.Key = name } }

func shows(epoch uint64, node string, enabled bool, members ...string) *history.HAVIP {
	return &history.HAVIP{ID: "id-1", Name: "v", Epoch: epoch, Node: node, Session: 7, Enabled: enabled, Range: members}
}

func TestLinearizable(t *testing.T) {
	ok, fail, unknown := history.OK, history.Fail, history.Unknown
	on, off := shows(1, "a", true), shows(1, "a", false)
	made := func() *book { return (&book{}).op("create", ok, on) }
	for _, c := range []struct {
		name string
		b    *book
		want Validity
	}{
		{"empty", &book{}, Unknown},
		{"reads only", (&book{}).op("read", fail, nil, code("ResourceNotFound")), Unknown},
		{"create and read", made().op("read", ok, on), Valid},
		{"planted: read of what was never made", (&book{}).op("read", ok, on), Invalid},
		{"planted: acknowledged creation not seen", made().op("read", fail, nil, code("ResourceNotFound")), Invalid},
		{"planted: lost update", made().op("disable", ok, nil).op("read", ok, on), Invalid},
		{"update seen", made().op("disable", ok, nil).op("read", ok, off), Valid},
		{"unknown update, seen", made().op("disable", unknown, nil).op("read", ok, off), Valid},
		{"unknown update, not seen", made().op("disable", unknown, nil).op("read", ok, on), Valid},
		{"unknown update, seen late", made().op("disable", unknown, nil).op("read", ok, on).op("read", ok, off), Valid},
		{"planted: unknown update comes and goes", made().op("disable", unknown, nil).op("read", ok, off).op("read", ok, on), Invalid},
		{"planted: refused update takes effect", made().op("disable", fail, nil, code("ResourceInUse")).op("read", ok, off), Invalid},
		{"at the same time, either", made().op("disable", ok, nil, until(9)).op("read", ok, on).op("read", ok, off), Valid},
		{"planted: at the same time, back and forth", made().op("disable", ok, nil, until(9)).op("read", ok, off).op("read", ok, on), Invalid},
		{"range", made().op("range", ok, nil, input(history.Request{Add: []string{"b", "a"}})).op("read", ok, shows(1, "a", true, "a", "b")), Valid},
		{"planted: one of two range changes lost", made().op("range", ok, nil, input(history.Request{Add: []string{"a"}})).
			op("range", ok, nil, input(history.Request{Add: []string{"b"}})).op("read", ok, shows(1, "a", true, "b")), Invalid},
		{"planted: epoch goes back", made().op("read", ok, shows(5, "b", true)).op("read", ok, shows(4, "a", true)), Invalid},
		{"planted: epoch with two owners", made().op("read", ok, shows(5, "b", true)).op("read", ok, shows(5, "a", true)), Invalid},
		{"owner changes with its epoch", made().op("read", ok, shows(5, "b", true)).op("read", ok, shows(6, "a", true)), Valid},
		{"deleted", made().op("delete", ok, nil).op("read", fail, nil, code("ResourceNotFound")), Valid},
		{"planted: deleted, then read", made().op("delete", ok, nil).op("read", ok, on), Invalid},
		{"planted: gone, then back", made().op("delete", ok, nil).op("read", fail, nil, code("ResourceNotFound")).
			op("read", ok, &history.HAVIP{ID: "id-1", Enabled: true, Deleting: true}), Invalid},
		{"planted: made twice", made().op("create", ok, on), Invalid},
		{"planted: duplicate of nothing", (&book{}).op("create", fail, nil, code("InvalidParameterValue.Duplicate")).op("create", ok, on).op("read", ok, on), Invalid},
		{"planted: another one under the name", made().op("read", ok, &history.HAVIP{ID: "id-2", Enabled: true}), Invalid},
		{"planted: stale index", made().op("read", ok, on, index(9)).op("read", ok, on, index(8), named("w")), Invalid},
		{"stale reads may lag", made().op("read", ok, on, index(9)).op("stale", ok, on, index(8)), Valid},
	} {
		if v := Linearizable(c.b.history()); v.Valid != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
	}
}

func TestEpochOrder(t *testing.T) {
	ok := history.OK
	for _, c := range []struct {
		name string
		b    *book
		want Validity
	}{
		{"empty", &book{}, Unknown},
		{"nothing moves", (&book{}).op("read", ok, shows(1, "a", true)).op("read", ok, shows(1, "a", true)), Unknown},
		{"grows", (&book{}).op("read", ok, shows(1, "a", true)).op("read", ok, shows(2, "a", true)), Valid},
		{"a stale answer lags", (&book{}).op("read", ok, shows(2, "a", true)).op("stale", ok, shows(1, "a", true), at("b")), Valid},
		{"planted: goes back", (&book{}).op("read", ok, shows(2, "a", true)).op("read", ok, shows(1, "a", true), at("b")), Invalid},
		{"planted: two owners of an epoch, one of them stale", (&book{}).op("read", ok, shows(1, "a", true)).op("read", ok, shows(2, "a", true)).
			op("stale", ok, shows(2, "b", true), at("b")), Invalid},
		{"planted: a session of two nodes", (&book{}).op("read", ok, shows(1, "a", true)).op("read", ok, shows(2, "b", true)), Invalid},
	} {
		if v := EpochOrder(c.b.history()); v.Valid != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
	}
}

func TestNothingLost(t *testing.T) {
	ok, fail, unknown := history.OK, history.Fail, history.Unknown
	on, off := shows(1, "a", true), shows(1, "a", false)
	made := func() *book { return (&book{}).op("create", ok, on) }
	final := func(b *book, view *history.HAVIP) *book {
		for _, node := range []string{"a", "b"} {
			if view == nil {
				b.op("final", fail, nil, code("ResourceNotFound"), at(node))
				continue
			}
			b.op("final", ok, view, at(node))
		}
		return b
	}
	for _, c := range []struct {
		name string
		b    *book
		want Validity
	}{
		{"empty", &book{}, Unknown},
		{"never read", made(), Unknown},
		{"no change", final(&book{}, nil), Unknown},
		{"kept", final(made(), on), Valid},
		{"planted: creation lost", final(made(), nil), Invalid},
		{"planted: deletion lost", final(made().op("delete", ok, nil), on), Invalid},
		{"deleted", final(made().op("delete", ok, nil), nil), Valid},
		{"being deleted", final(made().op("delete", ok, nil), &history.HAVIP{ID: "id-1", Enabled: true, Deleting: true}), Valid},
		{"planted: switch lost", final(made().op("disable", ok, nil), on), Invalid},
		{"switch kept", final(made().op("disable", ok, nil), off), Valid},
		{"deletion in doubt", final(made().op("delete", unknown, nil), nil), Unknown},
		{"switch in doubt", final(made().op("disable", ok, nil).op("enable", unknown, nil), on), Valid},
		{"planted: nodes differ", made().op("final", ok, on).op("final", ok, off, at("b")), Invalid},
		{"nodes differ, with a change in doubt", made().op("disable", unknown, nil).op("final", ok, on).op("final", ok, off, at("b")), Unknown},
		{"goes between two reads", made().op("delete", ok, nil).op("final", ok, &history.HAVIP{ID: "id-1", Enabled: true, Deleting: true}).
			op("final", fail, nil, code("ResourceNotFound"), at("b")), Valid},
		{"planted: a node has no answer", made().op("final", ok, on).op("final", unknown, nil, at("b")), Invalid},
	} {
		if v := NothingLost(c.b.history()); v.Valid != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
	}
}
