package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/netdev/fence"
)

const (
	ChildEnv = "HAVIP_AGENT_CHILD" // set by the guard: file 3 is its pipe
	childFD  = 3

	messageVersion = 1
	messageMax     = 4096                   // bytes of a line; a pipe takes as much in one piece
	PeersMax       = 16                     // only voters are named; a cluster has at most five
	sendWait       = 100 * time.Millisecond // for a guard that does not read
)

// Message is what the agent tells its guard, as one line of JSON, whenever it changes: what
// the guard needs to know when the agent can no longer be asked.
type Message struct {
	Version int `json:"v"`
	// Session is the one that this process opened and the log has not closed; 0: none.
	// Never one that the log alone tells of: it may be of another process.
	Session uint64     `json:"session"`
	Peers   []Peer     `json:"peers"` // the other voters, the leader first
	Fence   fence.Kind `json:"fence"` // what the agent installed; "": no edge at all
}

// Peer is a node that may lead.
type Peer struct {
	Node string `json:"node"` // id
	API  string `json:"api"`  // host:port
}

// parseMessage reads a line; false if it is not a whole message of this version.
func parseMessage(line []byte) (Message, bool) {
	var m Message
	err := json.Unmarshal(line, &m)
	return m, err == nil && m.Version == messageVersion && len(m.Peers) <= PeersMax
}

// Client writes messages to the guard.
type Client struct {
	pipe *os.File
	last string
}

// NewClient takes over the guard's pipe; nil if this process has no guard.
func NewClient() (*Client, error) {
	if os.Getenv(ChildEnv) == "" {
		return nil, nil
	}
	if err := os.Unsetenv(ChildEnv); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(childFD, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, fmt.Errorf("$%s is set, but file %d is not the pipe of a guard", ChildEnv, childFD)
	}
	unix.CloseOnExec(childFD)
	// Not blocking, so that a write to a guard that was stopped has a limit.
	if err := unix.SetNonblock(childFD, true); err != nil {
		return nil, err
	}
	return &Client{pipe: os.NewFile(childFD, "guard")}, nil
}

// Send writes m if it is news. What fails is sent again the next time; a guard that is
// dead has sent its signal.
func (c *Client) Send(m Message) {
	m.Version = messageVersion
	line, err := json.Marshal(m)
	if err != nil || string(line) == c.last {
		return
	}
	c.last = string(line)
	_ = c.pipe.SetWriteDeadline(time.Now().Add(sendWait))
	// It begins with the end of a line, for the half line that a failed write leaves.
	if _, err := c.pipe.WriteString("\n" + c.last + "\n"); err != nil && !errors.Is(err, unix.EPIPE) {
		c.last = ""
	}
}
