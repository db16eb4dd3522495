package limits

// What a node reports of its network interfaces. What is over a limit is left out with a word, the rest works.
const (
	// ENIsPerNode is how many interfaces of a node are known to the cluster.
	ENIsPerNode = 64

	// PrefixesPerENI is how many addresses of its own, with their subnets, are known of an interface.
	PrefixesPerENI = 32
)
