package netns

import (
	"errors"
	"fmt"
	"time"
)

// Placement is one row of "placement -o json". ENI and Node are nil without an owner.
type Placement struct {
	ID      string  `json:"id"`
	Name    string  `json:"name"`
	IP      string  `json:"ip"`
	Subnet  string  `json:"subnet"`
	State   string  `json:"state"` // AVAILABLE (served), PENDING (owned) or UNBIND
	ENI     *string `json:"eni"`
	Node    *string `json:"node"`
	Session uint64  `json:"session"`
	Epoch   uint64  `json:"epoch"`
	Index   uint64  `json:"index"`
	Reason  string  `json:"reason"`
}

// Owner is the node that owns the HAVIP, or empty.
func (p Placement) Owner() string {
	if p.Node == nil {
		return ""
	}
	return *p.Node
}

// NodeStatus is one row of "node list -o json".
type NodeStatus struct {
	Name             string `json:"name"`
	ID               string `json:"id"`
	Role             string `json:"role"`
	Address          string `json:"address"`
	Status           string `json:"status"` // alive, suspect, lost or left
	Leader           bool   `json:"leader"`
	Session          uint64 `json:"session"`
	LeaseRemainingMS int64  `json:"lease_remaining_ms"`
	Standby          bool   `json:"standby"`
	Maintenance      bool   `json:"maintenance"`
	Version          string `json:"version"`
}

// anywhere asks the running nodes in turn until one answers.
func (c *Cluster) anywhere(v any, args ...string) error {
	failed := errors.New("netns: no agent runs")
	for i := range c.Lab.Nodes() {
		if !c.Running(i + 1) {
			continue
		}
		err := c.query(i+1, v, args...)
		if err == nil {
			return nil
		}
		failed = err
	}
	return failed
}

// Placement is the whole placement as the first node that answers gives it, linearizable.
func (c *Cluster) Placement() ([]Placement, error) {
	var list []Placement
	return list, c.anywhere(&list, "placement")
}

// PlacementAt is the placement from node i; stale reads what that node itself has applied.
func (c *Cluster) PlacementAt(i int, stale bool) ([]Placement, error) {
	args := []string{"placement"}
	if stale {
		args = append(args, "--stale")
	}
	var list []Placement
	return list, c.query(i, &list, args...)
}

// Nodes is the list of nodes as the first node that answers gives it.
func (c *Cluster) Nodes() ([]NodeStatus, error) {
	var list []NodeStatus
	return list, c.anywhere(&list, "node", "list")
}

// Status is the document of "status" at node i, undecoded.
func (c *Cluster) Status(i int) ([]byte, error) { return c.CLI(i, "status", "-o", "json") }

// Leader is the number of the node that leads, or ErrNoLeader.
func (c *Cluster) Leader() (int, error) {
	nodes, err := c.Nodes()
	if err != nil {
		return 0, err
	}
	for _, n := range nodes {
		for i := range c.Lab.Nodes() {
			if n.Leader && n.Name == c.NodeName(i+1) {
				return i + 1, nil
			}
		}
	}
	return 0, ErrNoLeader
}

// WaitOwned waits until the HAVIP of that name has an owner that runs, and returns the owner's number.
func (c *Cluster) WaitOwned(name string, timeout time.Duration) (int, error) {
	owner := 0
	err := c.wait("owner of "+name, timeout, func() error {
		list, err := c.Placement()
		for _, p := range list {
			for i := range c.Lab.Nodes() {
				if p.Name == name && p.Owner() == c.NodeName(i+1) && c.Running(i+1) {
					owner = i + 1
					return nil
				}
			}
		}
		return errors.Join(err, fmt.Errorf("placement: %+v", list))
	})
	return owner, err
}

// wait repeats ready until it returns nil. Its last error is part of the ErrTimeout.
func (c *Cluster) wait(what string, timeout time.Duration, ready func() error) error {
	for deadline := time.Now().Add(timeout); ; time.Sleep(pollEvery) {
		err := ready()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: %s after %v: %w", ErrTimeout, what, timeout, err)
		}
	}
}

// Voters is how many nodes vote in Raft, as the first node that answers says.
func (c *Cluster) Voters() (int, error) {
	var status struct {
		Voters int `json:"voters"`
	}
	return status.Voters, c.anywhere(&status, "status")
}
