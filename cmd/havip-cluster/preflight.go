package main

import (
	"errors"
	"net/netip"

	"github.com/spf13/cobra"

	"havip-cluster/agent/preflight"
	"havip-cluster/membership/identity"
)

func newPreflightCommand(g *globals) *cobra.Command {
	var advertise string
	o := preflight.Options{}
	c := verb("preflight", "Whether this host is ready: kernel, rights, fence, address, ports, settings, clock, disk, other speakers, a peer", none, func(cmd *cobra.Command, _ []string) error {
		if advertise != "" {
			ip, err := netip.ParseAddr(advertise)
			if err == nil {
				err = identity.CheckAdvertise(ip)
			}
			if err != nil {
				return usage("--advertise %q is not an address by which other nodes reach this one: %v", advertise, err)
			}
			o.Advertise = ip
		}
		if o.Peer != "" && !isHost(o.Peer) {
			return usage("--peer %q is neither an IP address nor a name", o.Peer)
		}
		o.Dir = g.dataDir
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		found := preflight.Run(ctx, o)
		return errors.Join(emitList(g, found, nil, "", preflightColumns), preflight.Verdict(found))
	})
	c.Long = c.Short + ".\n\n" +
		"Each line is ok, a warning or a fault, with the way out; with a fault the exit code is 1. Nothing that stays is changed.\n" +
		"It takes some seconds, most of them to listen for other speakers of VRRP. Before `bootstrap` and `join`, and later."
	c.Example = "  havip-cluster preflight --advertise 10.0.0.11\n  havip-cluster preflight --peer 10.0.0.12 -o json"
	c.Flags().StringVar(&advertise, "advertise", "", "IP that this node has or will have (default: that of the data directory)")
	c.Flags().StringVar(&o.Peer, "peer", "", "another node, whose TCP ports and clock are looked at")
	c.Flags().IntVar(&o.Ports.API, "api-port", identity.DefaultPorts.API, "TCP port of the API")
	c.Flags().IntVar(&o.Ports.Raft, "raft-port", identity.DefaultPorts.Raft, "TCP port of Raft")
	c.Flags().IntVar(&o.Ports.Gossip, "gossip-port", identity.DefaultPorts.Gossip, "TCP and UDP port of gossip")
	c.Flags().IntVar(&o.Ports.Lease, "lease-port", identity.DefaultPorts.Lease, "UDP port for the words of the lease")
	return c
}

var preflightColumns = []column[preflight.Finding]{
	{"LEVEL", func(f preflight.Finding) string { return string(f.Level) }},
	{"WHAT", func(f preflight.Finding) string { return f.What }},
	{"FOUND", func(f preflight.Finding) string { return f.Text }},
	{"DO", func(f preflight.Finding) string { return f.Do }},
}
