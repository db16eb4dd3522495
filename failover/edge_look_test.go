package failover

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/nftables"

	"havip-cluster/netdev"
	"havip-cluster/netdev/fence"
)

// An address that goes right after a look is missed by that look, and found by the next
// one, which comes by itself.
func TestKeepAfterAnOldLook(t *testing.T) {
	onOneHost(t, func(eni netdev.ENI, dir string) {
		r, end := newRenewing(t, fence.EBPF, 3, eni, dir)
		defer end()
		keep := func(i int) []string {
			repairs, err := r.edge.Keep(r.held[i])
			if err != nil {
				t.Fatal(err)
			}
			return repairs
		}
		for i := range r.held { // and none is due for a refresh now, which would put it back unseen
			if got := keep(i); len(got) > 0 {
				t.Fatalf("right after Up: %v", got)
			}
		}
		if err := r.edge.addrs.Remove(eni.Index, r.held[1].HAVIP.IP); err != nil {
			t.Fatal(err)
		}
		r.edge.mu.Lock()
		r.edge.changesSeen++ // what the watcher does
		r.edge.mu.Unlock()
		got := keep(1)
		if len(got) == 0 { // the look was not old enough yet
			select {
			case <-r.edge.Changes():
			case <-time.After(10 * time.Second):
				t.Fatal("nobody looks again")
			}
			got = keep(1)
		}
		if !slices.Contains(got, "the address was gone") {
			t.Errorf("the loss was not seen: %v", got)
		}
		if present, _, err := r.edge.Observe(r.held[1]); !present || err != nil {
			t.Errorf("after the repair: present %v, %v", present, err)
		}
		if got := keep(2); len(got) > 0 {
			t.Errorf("of another HAVIP: %v", got)
		}
	})
}

// Whoever finds the fence damaged puts it right for all HAVIPs, and with nftables they come
// back shut: each of them is opened again, and tells why, whoever was first.
func TestKeepAfterTheFenceWasMended(t *testing.T) {
	damage := map[fence.Kind]func(index int) error{
		fence.EBPF: func(index int) error {
			line, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXEgress})
			if err != nil || len(line.Programs) == 0 {
				return fmt.Errorf("no program to detach: %w", err)
			}
			p, err := ebpf.NewProgramFromID(line.Programs[0].ID)
			if err != nil {
				return err
			}
			return errors.Join(link.RawDetachProgram(link.RawDetachProgramOptions{Target: index, Program: p, Attach: ebpf.AttachTCXEgress}), p.Close())
		},
		fence.NFTables: func(int) error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			c.FlushRuleset()
			return c.Flush()
		},
	}
	for kind, harm := range damage {
		for first, mend := range map[string]func(e *NetEdge, index int) error{
			"by Inventory": func(e *NetEdge, index int) error { return e.stand(index) },
			"by Keep":      func(*NetEdge, int) error { return nil },
		} {
			t.Run(string(kind)+" "+first, func(t *testing.T) {
				onOneHost(t, func(eni netdev.ENI, dir string) {
					r, end := newRenewing(t, kind, 3, eni, dir)
					defer end()
					for range 2 { // and the second time
						if err := errors.Join(harm(eni.Index), mend(r.edge, eni.Index)); err != nil {
							t.Fatal(err)
						}
						r.edge.forgetLook() // as lookLong would
						for i, h := range r.held {
							repairs, err := r.edge.Keep(h)
							if err != nil || len(repairs) != 1 || !strings.HasPrefix(repairs[0], "the fence was damaged: ") {
								t.Errorf("HAVIP %d: repaired %q, %v", i, repairs, err)
							}
							// The deadline is in the table too, and comes with the next renewal.
							if err := r.edge.fence.SetDeadline(int64(Boot().Add(time.Hour))); err != nil {
								t.Fatal(err)
							}
							if _, open, err := r.edge.Observe(h); !open || err != nil {
								t.Errorf("HAVIP %d: open %v, %v", i, open, err)
							}
							if repairs, err := r.edge.Keep(h); len(repairs) > 0 || err != nil {
								t.Errorf("HAVIP %d, again: repaired %q, %v", i, repairs, err)
							}
						}
					}
				})
			})
		}
	}
}
