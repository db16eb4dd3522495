package fsm

import (
	"reflect"
	"testing"
)

// addressDraws draws the change of a node's address.
func (c chooser) addressDraws(node string) map[string]func() Body {
	return map[string]func() Body{
		"set-address": func() Body {
			return SetAddress{node, pick(c, "address", []string{"192.0.2.41", "192.0.2.42", "192.0.2.1", "2001:db8::41", "nowhere"})}
		},
	}
}

// stopped closes the session of a node.
func (w *world) stopped(name string) {
	w.t.Helper()
	w.must(CloseSession{Session: w.session(name)})
}

// A node without a session gets another address and stays the same member in everything else.
func TestSetAddress(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	w.stopped("n2")
	before := w.node("n2")
	w.must(SetAddress{before.ID, "192.0.2.42"})
	after := w.node("n2")
	if after.Address != "192.0.2.42" || !w.hasEvent("node-changed", "node n2 is at 192.0.2.42 from now on, it was at 192.0.2.2") {
		t.Errorf("%+v", after)
	}
	if after.Address = before.Address; !reflect.DeepEqual(after, before) {
		t.Errorf("more than the address changed: %+v, %+v", before, after)
	}
	w.must(SetAddress{before.ID, "192.0.2.42"}) // once more changes nothing
	// The new address is the node's own from now on, and the old one is anybody's.
	w.must(CreateSubnet{Subnet: Subnet{Name: "far", VPC: DefaultVPC, CIDR: prefix("192.0.2.0/24")}})
	w.refuses(CreateHAVIP{Name: "web", IP: addr("192.0.2.42")}, CodeInUse, "n2")
	w.must(CreateHAVIP{Name: "web", IP: addr("192.0.2.2")})
}

func TestSetAddressRefusals(t *testing.T) {
	w := trio(t)
	if res := w.try(SetAddress{nodeID("n2"), "192.0.2.42"}); res.Refusal == nil || res.Refusal.Code != CodeLevel {
		t.Errorf("below level 4: %v", res.Refusal)
	}
	w.upgrade4()
	w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100")})
	w.refuses(SetAddress{nodeID("n2"), "192.0.2.42"}, CodeInUse, "stop it first")
	w.stopped("n2")
	for address, c := range map[string]struct {
		code Code
		says string
	}{
		"192.0.2.1":        {CodeInUse, "belongs to node n1"},
		"10.0.0.100":       {CodeInUse, "is the address of HAVIP web"},
		"127.0.0.1":        {CodeMalformed, "cannot be reached"},
		"0.0.0.0":          {CodeMalformed, "not an address"},
		"224.0.0.1":        {CodeMalformed, "not an address"},
		"fe80::1%eth0":     {CodeMalformed, "not an address"},
		"::ffff:192.0.2.9": {CodeMalformed, "not an address"},
		"host.example":     {CodeMalformed, "not an address"},
		"":                 {CodeMalformed, "not an address"},
	} {
		w.refuses(SetAddress{nodeID("n2"), address}, c.code, c.says)
	}
	w.refuses(SetAddress{"n-nobody", "192.0.2.42"}, CodeNotFound, "no node")
	w.must(UpdateNode{ID: nodeID("n2"), Removing: ptr(true)})
	w.refuses(SetAddress{nodeID("n2"), "192.0.2.42"}, CodeUnsupported, "being removed")
	if got := w.node("n2").Address; got != "192.0.2.2" {
		t.Errorf("it is at %s", got)
	}
}

func TestGoldenAddress(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	w.stopped("n2")
	w.must(SetAddress{nodeID("n2"), "192.0.2.42"})
	w.open("n2")
	for i := range 24 { // a golden log has some length
		w.must(UpdateNode{ID: nodeID("n2"), Score: ptr(i)})
	}
	goldenStory(t, w, "address", "about addresses of nodes", kindsOfAddresses...)
}
