// Package limits is the one table of sizes that several packages must agree on. Maps,
// refusals and docs follow from it; nobody writes such a number a second time.
package limits

const (
	// HAVIPs is how many HAVIPs one cluster has at most. The FSM refuses one more;
	// everything behind it is made for that many.
	HAVIPs = 10_000

	// FenceEntries is how many addresses the fence of one node guards at most: the
	// HAVIPs of the cluster, and those on the way out, which stay guarded until they
	// are off every device of the host. netdev/fence sizes its kernel maps by it.
	FenceEntries = 16_384

	// Probes is how many HAVIPs of one cluster have a probe at most, each with a port of its
	// own. The FSM refuses one more; netdev/fence sizes its kernel map by it.
	Probes = 256

	// FenceDevices is how many network devices of one node can stand behind the
	// fence. netdev/fence refuses to attach to one more.
	FenceDevices = 256
)
