package fence

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// run runs the real program on a frame in the kernel, without a device. The
// reason is -1 for a frame that the kernel's test run does not take: an untagged
// IP header cut short. On the wire TestRandomFrames sends those too.
func (f *bpfFence) run(t testing.TB, frame []byte, dir direction) (reason int) {
	before := f.counts(t)
	ret, _, err := f.programs()[dir].Test(frame)
	if errors.Is(err, unix.EINVAL) && len(frame) < 14+40 && frame[12] != 0x81 && frame[12] != 0x88 {
		return -1
	}
	if err != nil {
		t.Fatalf("%s %x: %v", dir, frame, err)
	}
	reason = -1
	for i, n := range f.counts(t) {
		if n == before[i]+1 && i/reasonsCount == int(dir) {
			reason = i % reasonsCount
		}
	}
	if dropped := int32(ret) == 2; dropped != (reason >= reasonShut) || (!dropped && int32(ret) != -1) {
		t.Fatalf("%s %x: verdict %d for reason %d", dir, frame, int32(ret), reason)
	}
	return reason
}

func (f *bpfFence) counts(t testing.TB) (sums [2 * reasonsCount]uint64) {
	for i := range sums {
		var perCPU []uint64
		if err := f.maps.Counters.Lookup(uint32(i), &perCPU); err != nil {
			t.Fatal(err)
		}
		for _, n := range perCPU {
			sums[i] += n
		}
	}
	return sums
}

// judged is a fence with two HAVIPs of each family, one open and one shut, and
// no device, and the state of any address in it.
func (w *world) judged(deadline int64) (*bpfFence, look) {
	f, ok := w.newFence().(*bpfFence)
	if !ok {
		w.t.Fatal("not the eBPF kind")
	}
	w.tie(f)
	w.must("deadline", f.SetDeadline(deadline))
	open := reasonOpen
	if deadline <= BootNow() {
		open = reasonExpired
	}
	return f, func(ip netip.Addr) int {
		switch ip {
		case host4(blockOpen, 1), host6(blockOpen, 1):
			return open
		case host4(blockShut, 1), host6(blockShut, 1):
			return reasonShut
		}
		return reasonOther
	}
}

// seeds are all frames of the table.
func seeds() (frames [][]byte) {
	for _, block := range []byte{blockOpen, blockShut, blockUnmanaged} {
		for _, r := range rows(variants[0], block, "", false) {
			frames = append(frames, r.frame)
		}
	}
	for _, from := range []uint16{portOpen, portShut, portOther, portLost} {
		for _, r := range portRows("", from, false) {
			frames = append(frames, r.frame)
		}
	}
	return frames
}

// mutate cuts, lengthens and scribbles over a frame.
func mutate(r *rand.Rand, frame []byte) []byte {
	f := append([]byte{}, frame...)
	for range r.IntN(4) {
		switch r.IntN(4) {
		case 0:
			f = f[:max(14, r.IntN(len(f)+1))]
		case 1:
			f = append(f, make([]byte, r.IntN(40))...)
		case 2:
			f[r.IntN(len(f))] = byte(r.UintN(256))
		case 3:
			interesting := []byte{0, 1, 6, 43, 44, 51, 58, 60, 135, 136, 0x81, 0x88, 255}
			f[12+r.IntN(len(f)-12)] = interesting[r.IntN(len(interesting))]
		}
	}
	return f
}

// TestModel runs the program against the model on frames bent at random.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for name, deadline := range map[string]int64{"ahead": BootNow() + time.Hour.Nanoseconds(), "passed": 1} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.variant = variants[0]
				f, state := w.judged(deadline)
				defer func() { w.must("uninstall", f.Uninstall()) }()
				all, hits := seeds(), [reasonsCount]int{}
				for i := range 4000 {
					frame := all[i%len(all)]
					if i >= len(all) {
						frame = mutate(r, frame)
					}
					for _, dir := range []direction{ingress, egress} {
						got, want := f.run(t, frame, dir), model(frame, dir, state)
						if got < 0 {
							continue
						}
						if hits[got]++; got != want {
							t.Fatalf("%s %x: reason %d, model says %d", dir, frame, got, want)
						}
					}
				}
				t.Logf("reasons seen: %v", hits)
				if hits[reasonOther] == 0 || hits[reasonMalformed] == 0 || hits[reasonShut] == 0 || hits[reasonOpen]+hits[reasonExpired] == 0 {
					t.Errorf("reasons seen %v: some never", hits)
				}
			})
		})
	}
}

// TestRandomFrames floods both ends of the wire with bent frames: the kernel
// survives, the fence stays, and the shut HAVIP never shows at the peer.
func TestRandomFrames(t *testing.T) {
	eachKind(t, func(w *world) {
		seed := uint64(time.Now().UnixNano())
		w.t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		w.bridged()
		f := w.newFence()
		w.must("attach", f.Attach(index(w.eni)))
		w.must("guard", f.Guard(host4(blockShut, 1)))
		w.must("guard", f.Guard(host6(blockShut, 1)))
		peer, tap, eni := w.socket(w.peer), w.socket(w.tap), w.socket(w.eni)
		all := seeds()
		for range 2000 {
			frame := mutate(r, all[r.IntN(len(all))])
			peer.send(frame)
			eni.send(frame)
		}
		for len(arrived(peer, tap, nil)) != 1 || len(arrived(eni, peer, nil)) != 1 {
			w.t.Fatal("the wire is wedged")
		}
		w.must("healthy", f.Healthy(index(w.eni)))
		w.check(rows(w.variant, blockShut, "after the flood", true))
		w.must("uninstall", f.Uninstall())
	})
}

func TestStoreDoesNotAllocate(t *testing.T) {
	inWorld(t, func(w *world) {
		w.variant = variants[0]
		f := w.newFence()
		defer func() { w.must("uninstall", f.Uninstall()) }()
		if n := testing.AllocsPerRun(1000, func() { _ = f.SetDeadline(BootNow()) }); n != 0 {
			t.Errorf("SetDeadline allocates %v times", n)
		}
	})
}

// What two hands move, nobody moves back, and what one has found passed stays so until a deadline is set.
func TestSharedDeadline(t *testing.T) {
	inWorld(t, func(w *world) {
		w.variant = variants[0]
		f, is := w.newFence().(Shared)
		if !is {
			t.Fatal("not a fence that can be shared")
		}
		defer func() { w.must("uninstall", f.Uninstall()) }()
		for _, step := range []struct {
			what string
			do   func()
			want int64
		}{
			{"extended from 0", func() { w.must("extend", f.Extend(50)) }, 0},
			{"set", func() { w.must("set", f.SetDeadline(100)) }, 100},
			{"extended", func() { w.must("extend", f.Extend(120)) }, 120},
			{"extended to less", func() { w.must("extend", f.Extend(110)) }, 120},
			{"looked at before it passes", func() { f.Expire(119) }, 120},
			{"looked at when it has passed", func() { f.Expire(120) }, 0},
			{"extended after that", func() { w.must("extend", f.Extend(500)) }, 0},
			{"looked at again", func() { f.Expire(1) }, 0},
		} {
			if step.do(); f.Deadline() != step.want {
				t.Errorf("%s: %d, want %d", step.what, f.Deadline(), step.want)
			}
		}
		var stored int64
		w.must("look", f.Deadlines().Lookup(uint32(0), &stored))
		if w.must("set", f.SetDeadline(77)); stored != 0 || f.Expire(76) != 77 {
			t.Errorf("the map has %d, and then %d", stored, f.Deadline())
		}
		if w.must("look", f.Deadlines().Lookup(uint32(0), &stored)); stored != 77 {
			t.Errorf("the map has %d, want 77", stored)
		}
	})
}
