package limits

// Limits of the checks of services.
const (
	// Checks is how many checks one cluster has, and so one node runs at most.
	Checks = 1000
	// CheckOutput is how much of a check's output goes into the log, in bytes.
	CheckOutput = 200
	// CheckRead is how much of a program's output or of an answer a check reads, in bytes.
	CheckRead = 64 << 10
	// CheckPrograms is how many programs of checks of type exec run at one time on a node.
	CheckPrograms = 32
)
