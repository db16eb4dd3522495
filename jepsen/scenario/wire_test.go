package scenario

import (
	"bytes"
	bits "encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"

	"havip-cluster/jepsen/netns"
)

// inFlight is how much later than the kernel's judgement the wire may stamp a frame. Both
// happen in one run of the transmit path, with preemption off: the fence's program, the
// device's transmit function, and the time stamp where the far end takes the frame over.
// That is 1 to 5 µs; an interrupt or the machine's hypervisor may lie between.
const inFlight = 100 * time.Microsecond

// deadline gives a function that reads, without any code or file of the agent, until when the kernel of
// a node lets its HAVIPs speak, in ns of CLOCK_BOOTTIME. It is final when the agent is dead or stopped.
// It is asked for before the fault: then the value can be read even if the fence goes with its processes.
func (b *Bed) deadline(node int) (read func() int64) {
	b.t.Helper()
	m, err := netns.FenceMap(b.Lab.Node(node), 0, "deadlines")
	if errors.Is(err, netns.ErrNoFence) {
		return func() int64 { return b.nftDeadline(node) }
	}
	b.must(err)
	b.t.Cleanup(func() { _ = m.Close() })
	return func() int64 {
		var at int64
		b.must(m.Lookup(uint32(0), &at))
		return at
	}
}

// nftDeadline is the one element of the set "deadline" of the node's table.
func (b *Bed) nftDeadline(node int) (at int64) {
	b.t.Helper()
	b.must(b.Lab.Node(node).Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
		for _, t := range tables {
			if !strings.HasPrefix(t.Name, "havip_") {
				continue
			}
			set, err := c.GetSetByName(t, "deadline")
			if err != nil {
				return err
			}
			elements, err := c.GetSetElements(set)
			if err != nil || len(elements) != 1 {
				return fmt.Errorf("%d deadlines in %s: %w", len(elements), t.Name, err)
			}
			at = int64(bits.BigEndian.Uint64(elements[0].Key))
			return nil
		}
		return fmt.Errorf("node-%d has no fence of either kind: %w", node, err)
	}))
	return at
}

// spoken is what a node said in the name of the HAVIP, on its own wire.
type spoken struct {
	before, after int           // frames, by the deadline
	last          time.Duration // the last one, relative to the deadline
}

func (s spoken) String() string {
	return fmt.Sprintf("frames before the deadline: %d, after it: %d; the last one at %s from it", s.before, s.after, s.last)
}

// judge counts the frames of a capture. A capture that has lost frames, or that never
// heard the owner, proves nothing.
func (b *Bed) judge(wire *netns.Wire, deadline int64) (s spoken) {
	b.t.Helper()
	frames, err := wire.Stop()
	b.must(err)
	var last int64
	for _, f := range frames {
		if f.Name != b.HAVIP {
			continue
		}
		last = max(last, f.At)
		if f.At > deadline+int64(inFlight) {
			s.after++
		} else {
			s.before++
		}
	}
	if s.before == 0 || deadline == 0 {
		b.t.Fatalf("the capture shows nothing of the owner: %d frames in all, deadline %d", len(frames), deadline)
	}
	s.last = time.Duration(last - deadline)
	return s
}

// quiet demands that nothing was said after the deadline.
func quiet(t *testing.T, s spoken) {
	t.Helper()
	t.Log(s)
	if s.after > 0 {
		t.Errorf("%d frames left the old owner after its deadline, the last one %s after it", s.after, s.last)
	}
}

// withoutBPF is a program that runs binary without the right to use eBPF, so that the
// agents choose the nftables fence by themselves, as on a host that forbids the other.
func withoutBPF(t *testing.T, binary string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "without-bpf")
	script := fmt.Sprintf("#!/bin/sh\nexec setpriv --bounding-set=-bpf,-sys_admin %q \"$@\"\n", binary)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path, "--help").CombinedOutput(); err != nil {
		t.Fatalf("setpriv (util-linux) is needed: %v: %s", err, out)
	}
	return path
}

// kinds runs a test once with each fence.
func kinds(t *testing.T, run func(t *testing.T, b *Bed, kind string)) {
	for _, kind := range []string{"ebpf", "nftables"} {
		t.Run(kind, func(t *testing.T) {
			b := unformed(t, 3)
			if kind == "nftables" {
				b.Cluster.Binary = withoutBPF(t, b.Cluster.Binary)
			}
			b.form(3)
			for i := 1; i <= 3; i++ {
				if out, err := b.Cluster.Status(i); err != nil || !bytes.Contains(out, []byte(`"`+kind)) {
					t.Fatalf("node-%d does not show the fence %s: %v in %s", i, kind, err, out)
				}
			}
			run(t, b, kind)
		})
	}
}
