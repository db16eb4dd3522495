package edge

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"havip-cluster/netdev"
)

// TestMemoryStaysSmall: 10,000 HAVIPs and devices come and go, each with trouble while it was here.
func TestMemoryStaysSmall(t *testing.T) {
	b := newBed(t, 1)
	b.loop = NewLoop(slog.New(slog.DiscardHandler), b.m, b.m.clock)
	b.want.AnnounceEvery = 10 * time.Millisecond
	for i := range 10_000 {
		index, device := 100+i, fmt.Sprint("eth", 100+i)
		addr := netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})
		b.want.Devices, b.want.Settled = map[int]bool{index: true}, map[string]bool{device: false}
		b.want.HAVIPs = map[netip.Addr]Want{addr: {}}
		b.m.fails["attach"], b.m.fails["guard"] = i%2 == 1, i%2 == 1
		b.m.loose = map[string][]netdev.Change{device: {{Device: device, Key: "arp_ignore", New: 1}}}
		b.loop.Turn(b.want)
		mem := b.loop.mem
		mem.settings[fmt.Sprintf("eth%d arp_ignore", index-1)] = &trouble{err: errModel} // it went before that was tried again
		mem.announced(addr, index, b.m.now, b.want.AnnounceEvery)
		b.m.now = b.m.now.Add(20 * time.Millisecond)
		b.loop.Turn(b.want)
	}
	clear(b.m.fails)
	b.want.HAVIPs, b.want.Devices, b.want.Settled = map[netip.Addr]Want{}, map[int]bool{}, map[string]bool{}
	b.m.loose = map[string][]netdev.Change{}
	for range 10 {
		b.m.now = b.m.now.Add(time.Second)
		b.loop.Turn(b.want)
	}
	m := b.loop.mem
	for what, n := range map[string]int{"records": len(m.records), "devices": len(m.devices), "settings": len(m.settings), "pace": len(m.pace), "interferences": len(m.interferences), "said": len(b.loop.said)} {
		if n > 64 {
			t.Errorf("%s has %d entries", what, n)
		}
	}
	if w := strings.Join(b.loop.Turn(b.want).Warnings, "\n"); strings.Contains(w, "cannot be set") {
		t.Errorf("it still warns of devices that have gone: %.200s", w)
	}
}
