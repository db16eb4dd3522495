package acceptor

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/internal/boottime"
	"havip-cluster/testbed/labtest"
)

// A renewal that is delegated is answered by the frame itself, turned round, with every field right and its
// checksum, if it had one; and the promise is stored.
func TestAnswer(t *testing.T) {
	b := newBed(t)
	for _, row := range []struct {
		name string
		peer netip.Addr
		make func([]byte) []byte
	}{
		{"IPv4 without a checksum", peer4, func(f []byte) []byte { return f }},
		{"IPv4", peer4, checksum},
		{"IPv6", peer6, checksum},
	} {
		d := delegation()
		d.Channel.Peer = row.peer
		b.grant(d)
		before := boottime.Now()
		frame := row.make(d.renewal(port, 101, 5001))
		verdict, answer, err := b.Try(frame)
		if err != nil || verdict != VerdictRedirect {
			t.Fatalf("%s: verdict %d, %v", row.name, int32(verdict), err)
		}
		if want := acknowledged(frame, &d); !bytes.Equal(answer, want) {
			t.Errorf("%s:\n%x, want\n%x", row.name, answer, want)
		}
		p := b.progress(7)
		if p.Round != 101 || p.Sent != 5001 || p.Acked != 1 || p.Heard < before || p.Heard > boottime.Now() || p.Until != p.Heard+int64(d.Promise) {
			t.Errorf("%s: promised %+v", row.name, p)
		}
		if _, _, err := b.Recall(7); err != nil {
			t.Fatal(err)
		}
	}
}

// What is not exactly as delegated is the process's, and promises nothing.
func TestWhatIsNotAnswered(t *testing.T) {
	b := newBed(t)
	d := delegation()
	b.grant(d)
	with := func(change func(*Delegation)) []byte {
		other := d
		change(&other)
		return other.renewal(port, 101, 5001)
	}
	headers := func(change func(f []byte)) []byte {
		f := d.renewal(port, 101, 5001)
		change(f)
		return f
	}
	for name, frame := range map[string][]byte{
		"a round that was acknowledged":       d.renewal(port, 100, 5001),
		"an older round":                      d.renewal(port, 1, 5001),
		"sent when the newest was":            d.renewal(port, 101, 5000),
		"sent before the newest":              d.renewal(port, 101, -1),
		"another session":                     with(func(d *Delegation) { d.Session++ }),
		"another length":                      with(func(d *Delegation) { d.Length++ }),
		"another voter set":                   with(func(d *Delegation) { d.Config++ }),
		"another process of the voter":        with(func(d *Delegation) { d.Boot++ }),
		"another channel":                     with(func(d *Delegation) { d.Channel.Number++ }),
		"another invitation":                  with(func(d *Delegation) { d.Channel.Invitation++ }),
		"a tag by another key":                with(func(d *Delegation) { d.Channel.Request[1]++ }),
		"a tag by the key of answers":         with(func(d *Delegation) { d.Channel.Request = d.Channel.Answer }),
		"from another address":                with(func(d *Delegation) { d.Channel.Peer = netip.MustParseAddr("192.0.2.9") }),
		"to another port":                     d.renewal(port+1, 101, 5001),
		"to another device's address":         headers(func(f []byte) { f[0] = 2 }),
		"a fragment":                          headers(func(f []byte) { f[ethernetBytes+6] = 0x20 }),
		"a later fragment":                    headers(func(f []byte) { f[ethernetBytes+7] = 1 }),
		"with IP options":                     headers(func(f []byte) { f[ethernetBytes] = 0x46 }),
		"no UDP":                              headers(func(f []byte) { f[ethernetBytes+9] = 6 }),
		"another protocol":                    headers(func(f []byte) { f[12], f[13] = 0x08, 0x06 }),
		"a datagram that says another length": headers(func(f []byte) { f[ethernetBytes+20+5]++ }),
		"cut":                                 d.renewal(port, 101, 5001)[:ethernetBytes+20+8+frameBytes-1],
		"a header alone":                      d.renewal(port, 101, 5001)[:ethernetBytes+20],
	} {
		if b.answers(frame) {
			t.Errorf("%s: answered", name)
		}
	}
	for i := range frameBytes { // every byte of the frame counts
		f := d.renewal(port, 101, 5001)
		f[headersBytes+i] ^= 1 << (i % 8)
		if b.answers(f) {
			t.Errorf("with byte %d changed: answered", i)
		}
	}
	if p := b.progress(7); p != d.Progress {
		t.Errorf("promised %+v, want %+v", p, d.Progress)
	}
	if !b.answers(d.renewal(port, 101, 5001)) {
		t.Error("what is delegated: not answered")
	}
}

// The agent suspends the voters by the page, and nothing is promised by what was granted before.
func TestSuspended(t *testing.T) {
	b := newBed(t)
	d := delegation()
	b.grant(d)
	atomic.AddInt64(&b.page[PageSuspended], 1)
	if b.answers(d.renewal(port, 101, 5001)) {
		t.Error("answered though the voters were suspended")
	}
	if _, _, err := b.Recall(7); err != nil {
		t.Fatal(err)
	}
	d.Suspended = 1
	b.grant(d)
	if !b.answers(d.renewal(port, 101, 5001)) {
		t.Error("not answered by what was granted afterwards")
	}
	atomic.AddInt64(&b.page[PageSuspended], 1) // also one that was opened before proves itself
	again, err := Open(b.file, port, nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// A session that comes by another channel has one delegation, and a recall ends it.
func TestAnotherChannel(t *testing.T) {
	b := newBed(t)
	first := delegation()
	second := first
	second.Channel.Number++
	b.grant(first)
	if _, _, err := b.Recall(7); err != nil {
		t.Fatal(err)
	}
	b.grant(second)
	if b.answers(first.renewal(port, 101, 5001)) {
		t.Error("answered in the channel before")
	}
	if !b.answers(second.renewal(port, 101, 5001)) {
		t.Error("not answered in the new channel")
	}
	if _, known, err := b.Recall(7); !known || err != nil {
		t.Fatal(known, err)
	}
	if _, known, err := b.Recall(7); known || err != nil {
		t.Errorf("recalled twice: %t, %v", known, err)
	}
	if b.answers(second.renewal(port, 102, 5002)) {
		t.Error("answered after the recall")
	}
}

// A promise never gets shorter.
func TestPromiseOnlyGrows(t *testing.T) {
	b := newBed(t)
	d := delegation()
	d.Until = boottime.Now() + int64(time.Hour)
	b.grant(d)
	if !b.answers(d.renewal(port, 101, 5001)) || b.progress(7).Until != d.Until {
		t.Errorf("until %d, want %d", b.progress(7).Until, d.Until)
	}
}

// One more than the limit is refused by name, and the others go on.
func TestFull(t *testing.T) {
	b := newBed(t)
	d := delegation()
	for i := range uint64(DelegationsMax) {
		d.Session, d.Channel.Number = i, i
		b.grant(d)
	}
	d.Session, d.Channel.Number = DelegationsMax, DelegationsMax
	if err := b.Grant(d); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
	d.Session, d.Channel.Number = DelegationsMax-1, DelegationsMax-1
	if !b.answers(d.renewal(port, 101, 5001)) || b.Acked() != 1 {
		t.Errorf("the last one is not answered, %d in all", b.Acked())
	}
	for i := range uint64(DelegationsMax) {
		if _, known, err := b.Recall(i); !known || err != nil {
			t.Fatal(i, known, err)
		}
	}
	b.grant(d)
}

// A page that is no map of the kernel's is refused.
func TestOrdinaryPage(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(f, port, nil); err == nil {
		t.Error("opened with an ordinary file")
	}
}

// Frames of any bytes are the process's: none is answered, and the kernel takes each.
func FuzzFrames(f *testing.F) {
	d := delegation()
	f.Add(d.renewal(port, 101, 5001), uint8(0))
	d.Channel.Peer = peer6
	f.Add(d.renewal(port, 101, 5001), uint8(3))
	if !labtest.KernelFrom(6, 6) {
		f.Skip("TCX needs Linux 6.6; the other tests see that it is refused")
	}
	page, err := NewPage()
	if err != nil {
		f.Fatal(err)
	}
	a, err := Open(page, port, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(a.Close)
	if err := a.Grant(delegation()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte, flip uint8) {
		if len(frame) < ethernetBytes+20 || len(frame) > 1500 {
			return // no skb is made of less
		}
		frame = slices.Clone(frame)
		at := len(frame) - 1 - int(flip)%min(len(frame), frameBytes)
		frame[at] ^= 0x10
		if verdict, _, err := a.Try(frame); err != nil || verdict != VerdictPass {
			t.Fatalf("verdict %d, %v", int32(verdict), err)
		}
	})
}

// Voters that are suspended while the program is proved, as when this node's log gets a configuration, are no fault of it.
func TestSuspendedWhileItIsProved(t *testing.T) {
	b := newBed(t)
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !over.Load() {
			atomic.AddInt64(&b.page[PageSuspended], 1)
			time.Sleep(200 * time.Microsecond)
		}
	}()
	for range 20 {
		a, err := Open(b.file, port, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		a.Close()
	}
	over.Store(true)
	<-done
}

// Who lacks a right is told which: status shows it.
func TestWithoutRights(t *testing.T) {
	b := newBed(t)
	for name, without := range map[string]uint64{"CAP_BPF": 1 << unix.CAP_BPF, "CAP_NET_ADMIN": 1 << unix.CAP_NET_ADMIN, "CAP_PERFMON": 1 << unix.CAP_PERFMON} {
		refused := make(chan error)
		go func() {
			runtime.LockOSThread()             // never unlocked: the thread ends here, and its rights with it
			without |= 1 << unix.CAP_SYS_ADMIN // it includes them
			var has [2]unix.CapUserData
			head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			err := unix.Capget(&head, &has[0])
			for i := range has {
				has[i].Effective &^= uint32(without >> (32 * i))
			}
			if err = errors.Join(err, unix.Capset(&head, &has[0])); err == nil {
				_, err = Open(b.file, port, nil)
			}
			refused <- err
		}()
		if err := <-refused; err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "MEMLOCK") {
			t.Errorf("without %s: %v", name, err)
		}
	}
}
