package limits

// Limits of what a node tells of the past.
const (
	// ChronicleFiles is how many files a node keeps events in, ChronicleFileBytes how long one
	// becomes.
	ChronicleFiles     = 8
	ChronicleFileBytes = 4 << 20
)
