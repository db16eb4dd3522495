package faults

import (
	"slices"

	"havip-cluster/jepsen/netns"
)

// Isolate cuts one node, counted from 1, off from all others; a host that is no node reaches both sides.
// heal takes back every cut of the lab.
func Isolate(l *netns.Lab, node int) (heal func() error, err error) {
	others := slices.Delete(l.Nodes(), node-1, node)
	return func() error { return l.Partition() }, l.Partition([]*netns.Host{l.Node(node)}, others)
}

// LinkDown takes the carrier of a node's first device.
func LinkDown(l *netns.Lab, node int) (heal func() error, err error) {
	host := l.Node(node)
	return func() error { return host.SetLink(0, true) }, host.SetLink(0, false)
}
