package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"

	"havip-cluster/membership/identity"
)

// movedHere is the result of `node set --address --local`.
type movedHere struct {
	Node    string `json:"node"`
	Address string `json:"address"`
	Was     string `json:"was"`
}

// moveHere gives this host's data directory another address. Its agent must not run, and the host must
// have the address: a wrong one would keep the agent from starting.
func (g *globals) moveHere(node, address string) error {
	to, err := netip.ParseAddr(address)
	if err != nil {
		return usage("--address %q is not an address", address)
	}
	s, err := identity.LoadSettings(g.dataDir)
	switch {
	case err != nil:
		return err
	case s.Name != node:
		return fmt.Errorf("%s is the data directory of node %s, not of %s", g.dataDir, s.Name, node)
	}
	if conn, err := net.Dial("unix", identity.SocketPath(g.dataDir)); err == nil {
		_ = conn.Close()
		return fmt.Errorf("the agent of node %s runs here; stop it first, which hands its HAVIPs over", node)
	}
	if !ownsAddress(to) {
		return fmt.Errorf("no interface of this host has %s; give it to one first", to)
	}
	if err := identity.Move(g.dataDir, to); err != nil {
		return err
	}
	err = emit(g, movedHere{s.Name, to.String(), s.Advertise.String()}, nil, func(w io.Writer, m movedHere) {
		fmt.Fprintf(w, "node %s is at %s from its next start on\n", m.Node, m.Address)
	})
	g.next("%s, when the cluster knows of it (`havip-cluster node set %s --address %s` at another node)", g.self("agent"), node, to)
	return err
}

// ownsAddress reports whether an interface of this host has an address.
func ownsAddress(addr netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == addr {
			return true
		}
	}
	return false
}
