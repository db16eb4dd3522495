package limits

// Limits of who may do what, and of the record of it.
const (
	// Credentials is how many tokens of people and programs one cluster keeps.
	Credentials = 256
	// Audited is how many accepted changes the state remembers with who asked for them.
	Audited = 1000
	// Refusals is how many refused requests each node remembers, in memory.
	Refusals = 500
	// Files is how many requests with a whole configuration in them a node reads at once.
	Files = 2
	// FileBytes bounds a configuration, as a file or in a request.
	FileBytes = 8 << 20
)
