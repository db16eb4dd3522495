package agent

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/membership"
	"havip-cluster/membership/identity"
)

// A node that was removed and has joined again is another node at the old address. Whoever had
// called the old one reaches the new one: a node that could not reach its leader got no
// session for as long as that one led.
func TestCallsTheNodeThatHasTheAddressNow(t *testing.T) {
	_, id := dataDir(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", id.ServerTLS(true))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	host, text, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{id: id, node: &membership.Node{Machine: membership.NewMachine()}, clients: map[string]connection{}}
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
	for i := range 10_000 { // nodes that come and go
		b.client(fsm.Node{ID: fmt.Sprintf("n-%016x", i), Address: fmt.Sprintf("192.0.2.%d", i%250), APIPort: 1 + i})
	}
	if len(b.clients) > 2 {
		t.Errorf("%d connections to nodes that are no members", len(b.clients))
	}
}
