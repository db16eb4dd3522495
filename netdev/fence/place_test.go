package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"havip-cluster/internal/limits"
)

// TestReadOnly: no file can be written anywhere and there is no bpffs; the proof
// and the fence work all the same.
func TestReadOnly(t *testing.T) {
	eachKind(t, func(w *world) {
		w.kernelHas()
		w.must("no bpffs", unix.Mount("tmpfs", "/sys/fs/bpf", "tmpfs", unix.MS_RDONLY, ""))
		w.must("read-only", unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
		hook := w.hook
		if hook == "" {
			hook = HookNFTables
		}
		_, err := prove(hook)
		w.must("prove", err)
		f := w.newFence()
		w.must("uninstall", f.Uninstall())
	})
}

// TestTooManyDevices: one more than the limit is refused, and the rest stands.
func TestTooManyDevices(t *testing.T) {
	inWorld(t, func(w *world) {
		w.variant = variants[0]
		f := w.newFence()
		var last int
		for i := range limits.FenceDevices / 2 {
			a, b := w.veth(fmt.Sprint("a", i), fmt.Sprint("b", i))
			w.must("attach", errors.Join(f.Attach(index(a)), f.Attach(index(b))))
			last = index(b)
		}
		w.wire()
		if err := f.Attach(index(w.eni)); !errors.Is(err, ErrFull) {
			t.Errorf("one too many: %v, want ErrFull", err)
		}
		w.must("again", f.Attach(last))
		r, err := f.Read()
		if err != nil || len(r.Devices) != limits.FenceDevices || r.Devices[last] != nil {
			t.Errorf("%d devices, error %v", len(r.Devices), err)
		}
		w.must("uninstall", f.Uninstall())
		w.nothingLeft()
	})
}

// TestOldTable: a table of the version with a timeout per HAVIP is brought up to
// this one: the HAVIPs as they were, silent until the next renewal.
func TestOldTable(t *testing.T) {
	inWorld(t, func(w *world) {
		w.variant = variants[2]
		w.bridged()
		cfg := w.config().complete()
		c, err := nftables.New()
		w.must("nftables", err)
		r := newRuleset(cfg.Table)
		c.AddTable(r.table)
		live := &nftables.Set{Table: r.table, ID: 99, Name: "live4", KeyType: nftables.TypeIPAddr, HasTimeout: true}
		for _, s := range append(r.sets(), live) {
			if s.Name != "gate" && s.Name != "owner" {
				w.must("set", c.AddSet(s, nil))
			}
		}
		ip, shut := host4(1, 1), host4(2, 1)
		deadline := BootNow() + time.Hour.Nanoseconds()
		w.must("elements", errors.Join(
			c.SetAddElements(r.ip4.open, []nftables.SetElement{{Key: ip.AsSlice()}}),
			c.SetAddElements(r.ip4.shut, []nftables.SetElement{{Key: shut.AsSlice()}}),
			c.SetAddElements(live, []nftables.SetElement{{Key: ip.AsSlice(), Timeout: time.Hour}}),
			c.SetAddElements(r.deadline, []nftables.SetElement{{Key: binary.BigEndian.AppendUint64(nil, uint64(deadline))}}),
		))
		chain := c.AddChain(r.chain(ingress, ""))
		c.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: join(load(layerIP, 16, 4, 1), inSet(live, true), verdict(expr.VerdictAccept))})
		w.must("old table", c.Flush())

		f := w.newFence()
		got, err := f.Guarded()
		if want := []Entry{{ip, true}, {shut, false}}; err != nil || !slices.Equal(got, want) || f.Deadline() != deadline {
			t.Errorf("adopted %v until %d, error %v", got, f.Deadline(), err)
		}
		w.must("attach", f.Attach(index(w.eni)))
		w.must("healthy", f.Healthy(index(w.eni)))
		if d := w.drops(ip); d != [2]bool{true, true} {
			t.Errorf("before the renewal: dropped %v", d)
		}
		w.must("renew", f.SetDeadline(deadline))
		if d := w.drops(ip); d != [2]bool{} {
			t.Errorf("after the renewal: dropped %v", d)
		}
		w.must("uninstall", f.Uninstall())
		w.nothingLeft()
	})
}
