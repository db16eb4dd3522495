package limits

// Limits of the log and of one decision. An entry of some megabytes costs one commit: see
// fsm/DESIGN.md for what was measured.
const (
	// Assignments bounds the claims that one entry makes, releases or confirms.
	Assignments = HAVIPs
	// AssignmentsLevel2 is the bound of programs that read no command of level 3.
	AssignmentsLevel2 = 1000
	// CommandBytes bounds one encoded command: Assignments of 800 bytes.
	CommandBytes = 8 << 20
	// CommandBytesLevel2 is the bound of programs that read no command of level 3.
	CommandBytesLevel2 = 1 << 20
	// SessionsPerEntry bounds the sessions that are closed in one entry.
	SessionsPerEntry = 128
	// PlacedEvents is how many assignments of one entry get an event of their own; one more
	// line counts the others.
	PlacedEvents = 20
	// DecisionsPerEntry is how many assignments of one entry go into the journal of decisions,
	// which keeps fsm.MaxDecisions in all.
	DecisionsPerEntry = 100
	// FailoversPerEntry bounds the timelines that are recorded in one entry.
	FailoversPerEntry = 200
)
