package main

import (
	"net"
	"strconv"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// A node that was removed and has joined again is another node at the old address. Whoever had
// called the old one reaches the new one: a node that could not reach its leader got no
// session for as long as that one led.
func TestCallsTheNodeThatHasTheAddressNow(t *testing.T) {
	_, id := dataDir(t)
	j := &journal{}
	p := leader(t, id, j, func() bool { return true })
	host, text, err := net.SplitHostPort(p.API)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{id: id, clients: map[string]connection{}}
	call := func(nodeID string) error {
		_, err := b.client(fsm.Node{ID: nodeID, Address: host, APIPort: port}).Status(t.Context(), true)
		return err
	}
	if identity.CheckNodeID(id.NodeID) != nil || call("n-0000000000000000") == nil {
		t.Fatal("a node that is not the one called was talked to")
	}
	if err := call(id.NodeID); err != nil {
		t.Errorf("the node that has the address now: %v", err)
	}
	if call("n-0000000000000000") == nil {
		t.Error("and back: a node that is not the one called was talked to")
	}
	if len(b.clients) != 1 {
		t.Errorf("%d connections to one address", len(b.clients))
	}
}
