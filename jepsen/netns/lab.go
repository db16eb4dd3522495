// Package netns holds the instruments and faults of experiments on a test bed: who answers for an
// address, what is on the wire, what the fences permit; partitions, loss, disks, clocks, and the
// environments that agents run in.
package netns

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"havip-cluster/testbed"
)

// Host is a host of the test bed, as it is.
type Host = testbed.Host

// Options are those of the test bed.
type Options = testbed.Options

// DefaultPort is the UDP port of responders.
const DefaultPort = testbed.DefaultPort

// RaisePriority gives this process the priority of a measuring instrument: see testbed.
func RaisePriority() { testbed.RaisePriority() }

// Lab is a test bed with what breaks its LAN and those who watch it.
type Lab struct {
	*testbed.Lab
	cuts cuts

	mu        sync.Mutex
	observers int     // made so far
	idle      []*Host // of observers that have stopped
}

// New builds a lab: see testbed.New.
func New(options Options) (*Lab, error) {
	bed, err := testbed.New(options)
	if err != nil {
		return nil, err
	}
	return &Lab{Lab: bed}, nil
}

// Close ends the lab: see testbed.Lab.Close. Stop observers first, too.
func (l *Lab) Close() error { return errors.Join(l.cuts.close(), l.Lab.Close()) }

// Isolate is that of the test bed. In a process that Cluster.Start made on the way to a command it
// does not return at all, but for an error.
func Isolate() (code int, done bool, err error) {
	if text := os.Getenv(enterEnv); text != "" {
		return 1, true, fmt.Errorf("netns: %w", enter(text))
	}
	code, done, err = testbed.Isolate()
	if err == nil && !done {
		reenters.Store(true)
	}
	return code, done, err
}
