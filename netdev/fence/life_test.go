package fence

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

func TestErrors(t *testing.T) {
	eachKind(t, func(w *world) {
		w.wire()
		f := w.newFence()
		unknown := host4(9, 9)
		cases := []struct {
			name string
			got  error
			want error
		}{
			{"attach nothing", f.Attach(4711), ErrNoDevice},
			{"healthy nothing", f.Healthy(4711), ErrNoDevice},
			{"healthy unattached", f.Healthy(index(w.eni)), ErrUnhealthy},
			{"open unknown", f.Open(unknown), ErrNotGuarded},
			{"shut unknown", f.Shut(unknown), ErrNotGuarded},
			{"forget unknown", f.Forget(unknown), nil},
			{"guard nothing", f.Guard(netip.Addr{}), ErrAddress},
			{"guard 0.0.0.0", f.Guard(netip.IPv4Unspecified()), ErrAddress},
			{"guard a zone", f.Guard(addr("fe80::1%eni0")), ErrAddress},
			{"guard a group", f.Guard(addr("224.0.0.18")), ErrAddress},
			{"detach nothing", f.Detach(4711), nil},
		}
		for _, c := range cases {
			if !errors.Is(c.got, c.want) || (c.want == nil && c.got != nil) {
				w.t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
			}
		}
		w.must("guard mapped", f.Guard(addr("::ffff:10.9.0.9")))
		w.must("open unmapped", f.Open(unknown))
		w.must("uninstall", f.Uninstall())
		if err := f.SetDeadline(1); !errors.Is(err, ErrClosed) {
			w.t.Errorf("SetDeadline after Uninstall: %v, want ErrClosed", err)
		}
	})
}

// TestAdopt leaves a fence behind and takes it over as it stood.
func TestAdopt(t *testing.T) {
	eachKind(t, func(w *world) {
		w.bridged()
		f := w.newFence()
		w.must("attach", f.Attach(index(w.eni)))
		deadline := BootNow() + time.Minute.Nanoseconds()
		want := []Entry{{host4(1, 1), true}, {host4(2, 1), false}, {host6(1, 1), true}, {host6(2, 1), false}}
		for _, e := range want {
			w.must("guard", f.Guard(e.IP))
			if e.Open {
				w.must("open", f.Open(e.IP))
			}
		}
		w.must("deadline", f.SetDeadline(deadline))
		w.must("close", f.Close())

		f = w.newFence()
		got, err := f.Guarded()
		w.must("guarded", err)
		if !slices.Equal(got, want) || f.Deadline() != deadline {
			w.t.Errorf("adopted %v until %d, want %v until %d", got, f.Deadline(), want, deadline)
		}
		w.must("healthy", f.Healthy(index(w.eni)))
		w.check(append(rows(w.variant, blockOpen, "adopted open", false), rows(w.variant, blockShut, "adopted shut", true)...))
		w.must("silence", f.SetDeadline(0))
		w.check(rows(w.variant, blockOpen, "adopted expired", true))
		w.must("uninstall", f.Uninstall())
		w.nothingLeft()
	})
}

// nothingLeft fails if Uninstall forgot something.
func (w *world) nothingLeft() {
	w.t.Helper()
	for _, dev := range []int{lo, index(w.eni)} {
		for i, at := range tcxTypes {
			if !haveTCX() {
				break
			}
			r, err := link.QueryPrograms(link.QueryOptions{Target: dev, Attach: at})
			if err != nil || len(r.Programs) > 0 {
				w.t.Errorf("%s programs left on %d: %v %v", direction(i), dev, r, err)
			}
		}
		qdiscs, err := netlink.QdiscList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: dev}})
		for _, q := range qdiscs {
			if err != nil || q.Type() == "clsact" {
				w.t.Errorf("left: %v, error %v", q, err)
			}
		}
	}
	c, err := nftables.New()
	w.must("nftables", err)
	if tables, err := c.ListTables(); err != nil || len(tables) > 0 {
		w.t.Errorf("tables left: %v, error %v", tables, err)
	}
}

// intact reports whether a reading shows the fence on a device.
func intact(r Reading, index int) bool {
	err, stands := r.Devices[index]
	return stands && err == nil
}

// TestHealthy breaks the fence as other programs might, and repairs it.
func TestHealthy(t *testing.T) {
	breaks := map[string]func(w *world) error{
		"tcx": func(w *world) error {
			line, _, err := tcx{}.list(index(w.eni), egress)
			if err != nil || len(line) == 0 {
				return fmt.Errorf("line %v: %w", line, err)
			}
			return tcx{}.remove(index(w.eni), egress, line[0])
		},
		"clsact": func(w *world) error {
			return netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index(w.eni), Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}})
		},
		"nftables": func(w *world) error {
			c, _ := nftables.New()
			c.FlushRuleset()
			return c.Flush()
		},
	}
	eachKind(t, func(w *world) {
		w.bridged()
		f := w.newFence()
		ip := host4(blockShut, 1)
		w.must("guard", f.Guard(ip))
		w.must("guard", f.Guard(host6(blockShut, 1)))
		w.must("attach", f.Attach(index(w.eni)))
		w.must("healthy", f.Healthy(index(w.eni)))
		w.must("break", breaks[w.name](w))
		if err := f.Healthy(index(w.eni)); !errors.Is(err, ErrUnhealthy) {
			w.t.Errorf("broken: %v, want ErrUnhealthy", err)
		}
		if err := f.SetDeadline(BootNow()); (err != nil) != (w.kind == NFTables) {
			w.t.Errorf("renewal on a broken fence: %v", err)
		}
		if r, err := f.Read(); err != nil || intact(r, index(w.eni)) {
			w.t.Errorf("a broken fence is read as %+v, error %v", r, err)
		} else if w.kind == NFTables && len(r.Entries) > 0 {
			w.t.Errorf("a flushed table is read as %+v", r.Entries)
		}
		w.must("repair", f.Attach(index(w.eni)))
		w.must("repaired", f.Healthy(index(w.eni)))
		if r, err := f.Read(); err != nil || !intact(r, index(w.eni)) || len(r.Entries) != 2 {
			w.t.Errorf("the repaired fence is read as %+v, error %v", r, err)
		}
		for range 5 { // a race
			w.must("break", breaks[w.name](w))
			w.must("repair, four at once", w.atOnce(4, func() error { return f.Attach(index(w.eni)) }))
			w.must("repaired", f.Healthy(index(w.eni)))
		}
		w.check(rows(w.variant, blockShut, "repaired", true))
		gone := index(w.eni)
		w.must("delete", netlink.LinkDel(w.eni))
		if err := f.Healthy(gone); !errors.Is(err, ErrNoDevice) {
			w.t.Errorf("deleted: %v, want ErrNoDevice", err)
		}
		w.must("detach", f.Detach(gone))
		w.wire() // the name comes again with another index
		w.must("attach", f.Attach(index(w.eni)))
		w.must("healthy", f.Healthy(index(w.eni)))
		w.must("uninstall", f.Uninstall())
		w.nothingLeft()
	})
}

// TestChangeOfKind moves the leftovers of each kind to the other.
func TestChangeOfKind(t *testing.T) {
	for _, pair := range [][2]variant{{variants[0], variants[2]}, {variants[2], variants[0]}} {
		t.Run(pair[0].name+" to "+pair[1].name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.variant = pair[0]
				w.bridged()
				f := w.newFence()
				w.must("attach", f.Attach(index(w.eni)))
				w.must("guard", f.Guard(host4(blockShut, 1)))
				w.must("guard", f.Guard(host6(blockShut, 1)))
				w.must("open", f.Open(host6(blockShut, 1)))
				w.must("close", f.Close())
				w.variant = pair[1]
				f = w.newFence()
				w.must("healthy", f.Healthy(index(w.eni)))
				w.check(rows(w.variant, blockShut, "moved", true))
				w.must("uninstall", f.Uninstall())
				w.nothingLeft()
			})
		})
	}
}

func TestThousand(t *testing.T) {
	const each = 500
	eachKind(t, func(w *world) {
		w.bridged()
		f := w.newFence()
		w.must("attach", f.Attach(index(w.eni)))
		w.must("deadline", f.SetDeadline(BootNow()+time.Hour.Nanoseconds()))
		for i := range each {
			for _, ip := range []netip.Addr{host4(1, i+1), host6(1, i+1)} {
				w.must("guard", f.Guard(ip))
				if i%2 == 0 {
					w.must("open", f.Open(ip))
				}
			}
		}
		w.must("renew", f.SetDeadline(BootNow()+time.Hour.Nanoseconds()))
		got, err := f.Guarded()
		w.must("guarded", err)
		if len(got) != 2*each || !slices.IsSortedFunc(got, compareEntries) {
			w.t.Fatalf("%d entries, want %d in order", len(got), 2*each)
		}
		var all []row
		for _, e := range got {
			var frame []byte
			if e.IP.Is4() {
				frame = ip4(other4, e.IP, 0)
			} else {
				frame = ip6(other6, e.IP, 17)
			}
			all = append(all, row{fmt.Sprint(e), frame, [2]bool{!e.Open, false}})
		}
		if drops := w.check(all); drops[ingress] != each {
			w.t.Errorf("%d expected drops, want %d", drops[ingress], each)
		}
		w.must("uninstall", f.Uninstall())
	})
}

// TestUserNamespace: no privilege but a namespace's own. eBPF is refused, so New
// falls back and says why.
func TestUserNamespace(t *testing.T) {
	if !kernelFrom([2]int{5, 16}) {
		t.Skip("what is left there without eBPF is nftables, which needs Linux 5.16")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FENCE_TEST_CHILD=userns")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
