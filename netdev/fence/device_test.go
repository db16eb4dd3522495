package fence

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"havip-cluster/internal/limits"
)

// drops reports whether the frames of an address are dropped, by direction.
func (w *world) drops(ip netip.Addr) [2]bool {
	in := arrived(w.socket(w.peer), w.socket(w.tap), [][]byte{ip4(other4, ip, 0)})[0]
	out := arrived(w.socket(w.eni), w.socket(w.peer), [][]byte{arpFrame(2, ip, other4)})[0]
	return [2]bool{!in, !out}
}

// TestTwoOwners: two nodes in one network namespace and on one device. Each finds
// its own fence only, neither counts as an obstacle to the other, and the end of
// one leaves the other as it is.
func TestTwoOwners(t *testing.T) {
	eachKind(t, func(w *world) {
		w.bridged()
		fences, ips := map[string]Fence{}, map[string]netip.Addr{"node-a": host4(1, 1), "node-b": host4(2, 1)}
		for _, owner := range []string{"node-a", "node-b"} {
			w.owner = owner
			f := w.newFence()
			w.must("attach", f.Attach(index(w.eni)))
			w.must("guard", f.Guard(ips[owner]))
			w.must("deadline", f.SetDeadline(BootNow()+time.Hour.Nanoseconds()))
			fences[owner] = f
		}
		w.must("open", fences["node-b"].Open(ips["node-b"]))
		for owner, f := range fences {
			w.must("healthy", f.Healthy(index(w.eni)))
			w.must("close", f.Close())
			w.owner = owner
			again := w.newFence()
			got, err := again.Guarded()
			w.must("guarded", err)
			if want := []Entry{{ips[owner], owner == "node-b"}}; !slices.Equal(got, want) {
				w.t.Errorf("%s found %v, want %v", owner, got, want)
			}
			fences[owner] = again
		}
		if all, err := Find(""); err != nil || len(all) != 2 {
			w.t.Errorf("%d fences of any owner, error %v", len(all), err)
		}
		if d := w.drops(ips["node-a"]); d != [2]bool{true, true} {
			w.t.Errorf("the shut one: dropped %v", d)
		}
		w.must("uninstall", fences["node-b"].Uninstall())
		if d := w.drops(ips["node-a"]); d != [2]bool{true, true} {
			w.t.Errorf("after the other's end: dropped %v", d)
		}
		w.must("healthy", fences["node-a"].Healthy(index(w.eni)))
		w.must("uninstall", fences["node-a"].Uninstall())
		w.nothingLeft()
	})
}

// foreign is a program of somebody else that returns code for every frame.
func (w *world) foreign(code int32) *ebpf.Program {
	w.t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "somebody", Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, code), asm.Return()},
	})
	w.must("foreign program", err)
	w.t.Cleanup(func() { p.Close() })
	return p
}

// intrude puts a program before all others, on the hook of the world's kind.
func (w *world) intrude(code int32) {
	w.t.Helper()
	for dir, at := range tcxTypes {
		p := w.foreign(code)
		if w.hook == HookTCX {
			w.must("intrude", link.RawAttachProgram(link.RawAttachProgramOptions{Target: index(w.eni), Program: p, Attach: at, Anchor: link.Head()}))
			continue
		}
		c := newClsact("somebody", haveTCX())
		line, _, err := c.list(index(w.eni), direction(dir))
		w.must("list", err)
		w.must("intrude", c.first(index(w.eni), direction(dir), p, line, 0))
	}
}

// TestForeignProgram: a program that ends the line with "pass" before the fence is
// seen, and overtaken, whether it came before the fence or after it.
func TestForeignProgram(t *testing.T) {
	for _, v := range variants[:2] {
		for _, first := range []string{"before", "after"} {
			t.Run(v.name+", came "+first, func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.variant = v
					w.bridged()
					f := w.newFence()
					ip := host4(1, 1)
					w.must("guard", f.Guard(ip))
					if first == "before" {
						w.intrude(0) // TCX_PASS, TC_ACT_OK
						w.must("attach", f.Attach(index(w.eni)))
					} else {
						w.must("attach", f.Attach(index(w.eni)))
						w.must("healthy", f.Healthy(index(w.eni)))
						w.intrude(0)
						if d := w.drops(ip); d != [2]bool{} {
							t.Fatalf("dropped %v: the foreign program proves nothing", d)
						}
						if err := f.Healthy(index(w.eni)); !errors.Is(err, ErrNotFirst) || !errors.Is(err, ErrUnhealthy) || !strings.Contains(err.Error(), "somebody") {
							t.Errorf("healthy: %v, want ErrNotFirst", err)
						}
						r, err := f.Read()
						w.must("read", err)
						if !errors.Is(r.Devices[index(w.eni)], ErrNotFirst) {
							t.Errorf("reading: %v, want ErrNotFirst", r.Devices)
						}
						w.must("attach", f.Attach(index(w.eni)))
					}
					w.must("healthy", f.Healthy(index(w.eni)))
					if d := w.drops(ip); d != [2]bool{true, true} {
						t.Errorf("dropped %v, want both", d)
					}
					line, _, err := f.(*bpfFence).hook.list(index(w.eni), ingress)
					if err != nil || len(line) != 2 {
						t.Errorf("line %v, error %v: want ours and the foreign one", line, err)
					}
					w.must("uninstall", f.Uninstall())
				})
			})
		}
	}
}

// TestOvertakeUnderFire: going back to the head opens no window. The foreign program
// lets everything through to the next one, so each frame that passes is our fault.
func TestOvertakeUnderFire(t *testing.T) {
	for _, v := range variants[:2] {
		t.Run(v.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.variant = v
				w.bridged()
				f := w.newFence()
				ip := host4(1, 1)
				w.must("guard", f.Guard(ip))
				w.must("attach", f.Attach(index(w.eni)))
				tap, peer := w.socket(w.tap), w.socket(w.peer)
				stop := make(chan struct{})
				var sent atomic.Int64
				var firing sync.WaitGroup
				firing.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							peer.send(nonce(ip4(other4, ip, 0), int(sent.Load())))
							sent.Add(1)
						}
					}
				})
				const rounds = 20
				for range rounds {
					w.intrude(-1) // TCX_NEXT
					if err := f.Healthy(index(w.eni)); !errors.Is(err, ErrNotFirst) {
						t.Errorf("healthy: %v, want ErrNotFirst", err)
					}
					for n := sent.Load(); sent.Load() < n+10; { // it is under fire
						time.Sleep(time.Millisecond)
					}
					w.must("overtake", f.Attach(index(w.eni)))
					w.must("healthy", f.Healthy(index(w.eni)))
				}
				close(stop)
				firing.Wait()
				passed := 0
				for quiet := 0; quiet < 3; {
					a, ok := tap.next()
					if !ok {
						quiet++
					} else if strings.Contains(string(a.frame), string(nonceMark)) {
						passed++
					}
				}
				if passed > 0 || sent.Load() < 10*rounds {
					t.Errorf("%d of %d frames passed", passed, sent.Load())
				}
				t.Logf("%d frames in %d rounds", sent.Load(), rounds)
				w.must("uninstall", f.Uninstall())
			})
		})
	}
}

// TestTCXBeforeClsact: no filter can overtake a TCX program, so the fence says that.
func TestTCXBeforeClsact(t *testing.T) {
	if !haveTCX() {
		t.Skip("no TCX before Linux 6.6")
	}
	inWorld(t, func(w *world) {
		w.variant = variants[1]
		w.bridged()
		f := w.newFence()
		w.must("attach", f.Attach(index(w.eni)))
		w.must("healthy", f.Healthy(index(w.eni)))
		w.variant = variants[0]
		w.intrude(-1)
		for what, err := range map[string]error{"healthy": f.Healthy(index(w.eni)), "attach": f.Attach(index(w.eni))} {
			if !errors.Is(err, ErrNotFirst) || !strings.Contains(err.Error(), "TCX") {
				t.Errorf("%s: %v, want ErrNotFirst by TCX", what, err)
			}
		}
		w.must("uninstall", f.Uninstall())
	})
}

// TestForeignChain: with nftables an accept ends only the chain that says it.
func TestForeignChain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.variant = variants[2]
		w.bridged()
		f := w.newFence()
		w.must("guard", f.Guard(host4(1, 1)))
		c, err := nftables.New()
		w.must("nftables", err)
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: "somebody"})
		for i, hook := range []*nftables.ChainHook{nftables.ChainHookIngress, nftables.ChainHookEgress} {
			ch := c.AddChain(&nftables.Chain{
				Table: table, Name: fmt.Sprint("first", i), Type: nftables.ChainTypeFilter, Hooknum: hook,
				Priority: nftables.ChainPriorityRef(-500), Device: w.eni.Attrs().Name,
			})
			c.AddRule(&nftables.Rule{Table: table, Chain: ch, Exprs: verdict(expr.VerdictAccept)})
		}
		w.must("foreign chains", c.Flush())
		w.must("attach", f.Attach(index(w.eni)))
		if d := w.drops(host4(1, 1)); d != [2]bool{true, true} {
			t.Errorf("dropped %v, want both", d)
		}
		w.must("uninstall", f.Uninstall())
	})
}

// TestFind: what several dead processes left is found without their names, and
// removed.
func TestFind(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bridged()
		var owners []string
		for _, v := range variants {
			w.variant, w.owner = v, "node-"+v.name
			f := w.newFence()
			w.must("attach", f.Attach(index(w.eni)))
			w.must("guard", f.Guard(host4(1, 1)))
			w.must("close", f.Close())
			owners = append(owners, w.owner)
		}
		for _, owner := range owners {
			found, err := Find(owner)
			if err != nil || len(found) != 1 || "node-"+found[0].Hook() != owner {
				t.Fatalf("%s: found %v, error %v", owner, found, err)
			}
			w.must("close", found[0].Close())
		}
		if found, err := Find("nobody"); err != nil || len(found) != 0 {
			t.Errorf("of nobody: %v, error %v", found, err)
		}
		found, err := Find("")
		if err != nil || len(found) != len(variants) {
			t.Fatalf("found %v, error %v", found, err)
		}
		for _, f := range found {
			w.must("silence", f.SetDeadline(0))
			w.must("shut", f.Shut(host4(1, 1)))
			w.must("uninstall", f.Uninstall())
		}
		w.nothingLeft()
	})
}

// TestFull: the limit, one more, and what is left of a batch that fails in parts.
func TestFull(t *testing.T) {
	eachKind(t, func(w *world) {
		w.bridged()
		f := w.newFence()
		w.must("attach", f.Attach(index(w.eni)))
		w.must("deadline", f.SetDeadline(BootNow()+time.Hour.Nanoseconds()))
		var ips []netip.Addr
		for i := range limits.FenceEntries {
			ips = append(ips, host4(100+byte(i>>13), i&0x1fff))
		}
		ips[0] = host4(1, 1)
		w.must("guard", f.Guard(ips[:limits.FenceEntries-1]...))
		w.must("open", f.Open(ips[:limits.FenceEntries-1]...))
		// Room for one of these three; the known one among them is shut all the same.
		more := []netip.Addr{host4(1, 1), host4(250, 1), host4(250, 2), host4(250, 3)}
		if err := f.Guard(more...); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "2 of 4") {
			w.t.Errorf("two too many: %v, want ErrFull", err)
		}
		if err := f.Guard(host4(251, 1)); !errors.Is(err, ErrFull) {
			w.t.Errorf("one too many: %v, want ErrFull", err)
		}
		r, err := f.Read()
		w.must("read", err)
		open := 0
		for _, e := range r.Entries {
			if e.Open {
				open++
			}
		}
		if len(r.Entries) != limits.FenceEntries || open != limits.FenceEntries-2 || !slices.IsSortedFunc(r.Entries, compareEntries) {
			w.t.Errorf("%d entries, %d open", len(r.Entries), open)
		}
		if d := w.drops(host4(1, 1)); d != [2]bool{true, true} {
			w.t.Errorf("guarded again: dropped %v", d)
		}
		if d := w.drops(ips[5000]); d != [2]bool{} {
			w.t.Errorf("open: dropped %v", d)
		}
		// Some are not guarded, one is no address: the rest is done.
		mixed := append([]netip.Addr{{}, host4(252, 1)}, ips[1:300]...)
		if err := f.Shut(mixed...); !errors.Is(err, ErrAddress) || !strings.Contains(err.Error(), "2 of 301") {
			w.t.Errorf("shut: %v", err)
		}
		if d := w.drops(ips[299]); d != [2]bool{true, true} {
			w.t.Errorf("shut: dropped %v", d)
		}
		w.must("forget", f.Forget(append(mixed[1:], ips[300:]...)...))
		if got, err := f.Guarded(); err != nil || len(got) != 2 {
			w.t.Errorf("after forgetting: %v, error %v", got, err)
		}
		w.must("uninstall", f.Uninstall())
	})
}

// TestOrder: entries come in the order of netip.Addr, also the small IPv6 ones.
func TestOrder(t *testing.T) {
	eachKind(t, func(w *world) {
		f := w.newFence()
		ips := []netip.Addr{addr("::2"), addr("2001:db8::1"), host4(9, 9), addr("::1:0:0:1"), host4(1, 1), addr("fe80::1")}
		w.must("guard", f.Guard(ips...))
		got, err := f.Guarded()
		if err != nil || len(got) != len(ips) || !slices.IsSortedFunc(got, compareEntries) {
			w.t.Errorf("%v, error %v", got, err)
		}
		w.must("uninstall", f.Uninstall())
	})
}

// TestDevices: a reading knows the attached devices and no others.
func TestDevices(t *testing.T) {
	eachKind(t, func(w *world) {
		w.bridged()
		f := w.newFence()
		devices := func(when string, want map[int]error) {
			w.t.Helper()
			r, err := f.Read()
			w.must("read", err)
			for i, err := range r.Devices {
				if e, ok := want[i]; !ok || !errors.Is(err, e) {
					w.t.Errorf("%s: device %d: %v, want %v", when, i, err, e)
				}
			}
			if len(r.Devices) != len(want) {
				w.t.Errorf("%s: %v, want %v", when, r.Devices, want)
			}
		}
		a, b := index(w.eni), index(w.tap)
		devices("new", nil)
		w.must("attach", f.Attach(a))
		w.must("attach", f.Attach(b))
		devices("attached", map[int]error{a: nil, b: nil})
		w.must("close", f.Close())
		f = w.newFence()
		devices("adopted", map[int]error{a: nil, b: nil})
		w.must("delete", netlink.LinkDel(w.tap))
		devices("one is gone", map[int]error{a: nil, b: ErrNoDevice})
		w.must("detach", f.Detach(b))
		devices("detached", map[int]error{a: nil})
		w.must("uninstall", f.Uninstall())
	})
}

// TestUpgrade: the programs and pins of the version before, made with its object
// file, are moved, shut, without a moment in which frames pass unjudged.
func TestUpgrade(t *testing.T) {
	if !haveTCX() {
		t.Skip("the version before had TCX alone, which needs Linux 6.6")
	}
	for _, v := range variants {
		t.Run("to "+v.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.variant = v
				w.bridged()
				dir := filepath.Join(t.TempDir(), "bpf")
				w.pinned(dir, host4(1, 1), host4(2, 1))
				cfg := w.config()
				cfg.OldDir = dir
				f, why, err := New(cfg)
				w.must("New", err)
				if !strings.Contains(why, "moved") {
					t.Errorf("why: %s", why)
				}
				got, err := f.Guarded()
				if want := []Entry{{host4(1, 1), false}, {host4(2, 1), false}}; err != nil || !slices.Equal(got, want) {
					t.Errorf("moved %v, error %v, want %v", got, err, want)
				}
				w.must("healthy", f.Healthy(index(w.eni)))
				if d := w.drops(host4(1, 1)); d != [2]bool{true, true} {
					t.Errorf("dropped %v, want both", d)
				}
				w.must("open", f.Open(host4(1, 1)))
				w.must("deadline", f.SetDeadline(BootNow()+time.Hour.Nanoseconds()))
				if d := w.drops(host4(1, 1)); d != [2]bool{} {
					t.Errorf("dropped %v: the old programs are still there", d)
				}
				if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is left: %v", dir, err)
				}
				w.must("uninstall", f.Uninstall())
				w.nothingLeft()
			})
		})
	}
}

// pinned installs a fence as the version before did: open addresses, the deadline
// ahead, maps and links pinned in a bpffs of its own.
func (w *world) pinned(dir string, ips ...netip.Addr) {
	w.t.Helper()
	w.must("directory", os.MkdirAll(dir, 0o700))
	w.must("bpffs", unix.Mount("bpffs", dir, "bpf", 0, "mode=0700"))
	w.must("mark", os.Mkdir(filepath.Join(dir, oldMark), 0o700))
	spec, err := ebpf.LoadCollectionSpec("testdata/fence_pinned_bpfel.o")
	w.must("object", err)
	for _, name := range oldPins {
		spec.Maps[name].Pinning = ebpf.PinByName
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: dir}})
	w.must("load", err)
	defer c.Close()
	for _, ip := range ips {
		w.must("open", c.Maps[fenceMapHavips].Put(ip.As16(), stateOpen))
	}
	w.must("deadline", c.Maps[fenceMapDeadlines].Put(uint32(0), uint64(BootNow()+time.Minute.Nanoseconds())))
	for dir2, at := range tcxTypes {
		l, err := link.AttachTCX(link.TCXOptions{Interface: index(w.eni), Program: c.Programs[programNames[dir2]], Attach: at, Anchor: link.Head()})
		w.must("link", err)
		w.must("pin", l.Pin(filepath.Join(dir, fmt.Sprintf("%s-%d", []string{"in", "out"}[dir2], index(w.eni)))))
		w.must("close", l.Close())
	}
}
