// Package preflight looks at a host before a node runs on it, and later: what the kernel gives, what is in
// the way, and what to do about it. It changes nothing that stays.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"havip-cluster/membership/identity"
)

// Level is how bad a finding is.
type Level string

const (
	OK      Level = "ok"
	Warning Level = "warning" // it runs, with what the text says
	Fault   Level = "fault"   // it does not run, or not safely
)

// Finding is one line.
type Finding struct {
	Level Level  `json:"level"`
	What  string `json:"what"` // stable: kernel, rights, fence, address, port, sysctl, priority, real time, memory, clock, disk, speaker, peer
	Text  string `json:"text"`
	// Do is the way out; "" for what is all right.
	Do string `json:"do,omitempty"`
}

// Options say what is looked at.
type Options struct {
	Dir       string         // the data directory, which need not exist
	Advertise netip.Addr     // the address of the node; zero: that of the data directory, else none is looked at
	Ports     identity.Ports // of the node, and of the peer
	Peer      string         // IP or name of another node; "": none
}

// check is one look at the host. It returns a line for each thing it looked at.
type check func(ctx context.Context, o Options) []Finding

// Run makes all looks, one after another, and returns the lines in a stable order. It takes some seconds, most
// of them to listen for other speakers; ctx ends it early. It needs root. main must have called fence.ProofChild.
func Run(ctx context.Context, o Options) []Finding {
	if id, err := identity.Load(o.Dir); err == nil {
		if !o.Advertise.IsValid() {
			o.Advertise = id.Advertise
		}
		o.Ports = id.Ports
	}
	if o.Ports == (identity.Ports{}) {
		o.Ports = identity.DefaultPorts
	}
	var all []Finding
	for _, look := range []check{kernel, rights, fences, address, ports, sysctls, priority, memory, clock, disk, speakers, peer} {
		if ctx.Err() != nil {
			return append(all, Finding{Warning, "preflight", "it was ended before it had looked at everything", "let it run to its end"})
		}
		all = append(all, look(ctx, o)...)
	}
	return all
}

// ErrFault is returned by Verdict when a node would not run, or not safely.
var ErrFault = errors.New("this host is not ready")

// Verdict is nil when there is no fault.
func Verdict(all []Finding) error {
	n := 0
	for _, f := range all {
		if f.Level == Fault {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	first := all[slices.IndexFunc(all, func(f Finding) bool { return f.Level == Fault })]
	return fmt.Errorf("%w: %d of the lines are faults, the first is: %s: %s", ErrFault, n, first.What, first.Text)
}

func ok(what, format string, args ...any) Finding {
	return Finding{Level: OK, What: what, Text: fmt.Sprintf(format, args...)}
}

func warning(what, do, format string, args ...any) Finding {
	return Finding{Warning, what, fmt.Sprintf(format, args...), do}
}

func fault(what, do, format string, args ...any) Finding {
	return Finding{Fault, what, fmt.Sprintf(format, args...), do}
}
