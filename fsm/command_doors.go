package fsm

// The verbs of level 4.

// RegisterKey says with which key a node speaks from now on, and where it listens. It is
// accepted from the node's own certificate alone (OwnCommand). The key before it counts on, so
// that words under way and members that lag are understood, until the node registers the same
// key again with Alone.
type RegisterKey struct {
	Node string  `json:"node"` // id
	Key  NodeKey `json:"key"`
	// LeasePort is the UDP port of the words of the lease, 1 to 65535.
	LeasePort int `json:"lease_port"`
	// Alone ends the right of every earlier key.
	Alone bool `json:"alone,omitempty"`
}

// ReportBehind is the leader's word that the holder of a session does not apply the log, or does so
// again. Until then it gets no HAVIP that it does not have; what it serves stays.
type ReportBehind struct {
	Session uint64 `json:"session"`
	// Behind is the last entry that the holder has applied, at least 1; 0 = it is up to date again.
	Behind uint64 `json:"behind,omitempty"`
}

func (RegisterKey) kind() string  { return "register-key" }
func (ReportBehind) kind() string { return "report-behind" }

// doorBodies are the kinds of level 4.
func doorBodies() []Body { return []Body{&RegisterKey{}, &ReportBehind{}} }
