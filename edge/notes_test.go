package edge

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/netdev"
)

// The settings of every device that hears ARP are right before the first announcement, also
// those of a device that comes when the last look at the settings was a moment ago. The model
// refuses an announcement before.
func TestSettingsBeforeTheFirstAnnouncement(t *testing.T) {
	b := newBed(t, 2)
	wrong := func(device string) {
		b.m.loose[device] = []netdev.Change{{Device: device, Key: "arp_ignore", Old: 0, New: 1}}
	}
	b.turn() // everything is read, and no setting is wanted yet
	wrong("eth1")
	b.want.Settled = map[string]bool{"eth0": false, "eth1": false}
	b.here(0, 1)
	if f := b.later(20 * time.Millisecond); len(f.Serving) != 1 {
		t.Fatalf("%+v", f)
	}
	wrong("eth2")
	b.want.Settled = map[string]bool{"eth0": false, "eth1": false, "eth2": true}
	b.here(1, 1)
	if f := b.later(20 * time.Millisecond); len(f.Serving) != 1 || len(b.m.loose["eth2"]) > 0 {
		t.Fatalf("%+v, %v", f, b.m.loose)
	}
}

// Many changed settings are a few lines of the log.
func TestManySettingsAreFewLines(t *testing.T) {
	b := newBed(t, 1)
	b.want.Settled = map[string]bool{}
	for i := range 70 {
		device := fmt.Sprint("va", i)
		b.want.Settled[device] = false
		b.m.loose[device] = []netdev.Change{{Device: device, Key: "arp_ignore", Old: 0, New: 1}}
	}
	b.here(0, 1)
	b.turn()
	if n := strings.Count(b.logs.String(), "\n"); n == 0 || n > 10 {
		t.Errorf("%d lines:\n%s", n, b.logs.String())
	}
}

// A fence that another program got in front of is put right, also where no HAVIP is served, and
// told: once a minute as an event, and as a warning until it has been quiet for a while.
func TestFightsAreTold(t *testing.T) {
	b := newBed(t, 1)
	if f := b.turn(); len(f.Notes)+len(f.Warnings) > 0 {
		t.Fatalf("at the beginning: %+v", f)
	}
	attack := func() Facts {
		b.m.attached[1] = fmt.Errorf("it is not intact: program 7 (foreign) is before it")
		return b.later(readEvery)
	}
	f := attack()
	if len(f.Notes) != 1 || !f.Notes[0].Repaired || !strings.Contains(f.Notes[0].Text, "foreign") || len(f.Warnings) != 1 || b.m.attached[1] != nil {
		t.Fatalf("%+v, attached %v", f, b.m.attached)
	}
	for range 5 {
		if f = attack(); len(f.Notes) > 0 || b.m.attached[1] != nil {
			t.Errorf("again: %+v, attached %v", f, b.m.attached)
		}
	}
	if len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], "6 times") || !strings.Contains(f.Warnings[0], "foreign") {
		t.Errorf("warnings %q", f.Warnings)
	}
	b.m.now = b.m.now.Add(sayAgain)
	if f = attack(); len(f.Notes) != 1 {
		t.Errorf("a minute later: %+v", f)
	}
	if f = b.later(interferenceKept + time.Second); len(f.Warnings) > 0 {
		t.Errorf("and in the end: %q", f.Warnings)
	}
}

// A default route from a HAVIP is told, on every node that has one; one from another address is not.
func TestDefaultSources(t *testing.T) {
	b := newBed(t, 2)
	gateway := netip.MustParseAddr("10.0.0.254")
	b.m.routing.Defaults = []netdev.DefaultRoute{
		{Index: 1, Gateway: gateway, Source: ip(200)},
		{Index: 1, Gateway: gateway, Metric: 5, Source: ip(1)},
		{Index: 2, Metric: 9, Source: ip(1)}, {Index: 1, Gateway: gateway, Metric: 9},
	}
	f := b.turn()
	if len(f.Notes) != 2 || f.Notes[0].IP != ip(1) || f.Notes[0].Repaired || len(f.Warnings) != 2 {
		t.Fatalf("%+v", f)
	}
	if want := "`ip route replace default via 10.0.0.254 dev device 1 metric 5`"; !strings.Contains(f.Warnings[0], want) {
		t.Errorf("%q has no %s", f.Warnings[0], want)
	}
	if strings.Contains(f.Warnings[1], "`") {
		t.Errorf("a command for a route with two next hops would lose one of them: %q", f.Warnings[1])
	}
	if f = b.later(readEvery); len(f.Notes) > 0 || len(f.Warnings) != 2 {
		t.Errorf("again: %+v", f)
	}
	b.want.HAVIPs[ip(1)] = Want{Leave: true}
	if f = b.later(readEvery); len(f.Warnings) > 0 {
		t.Errorf("it is nobody's business: %q", f.Warnings)
	}
}

// run is a command in the network namespace of the calling thread.
func run(t testing.TB, command string) {
	t.Helper()
	if out, err := exec.Command("/bin/sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// quoted is the command in a text.
func quoted(t *testing.T, text string) string {
	t.Helper()
	parts := strings.Split(text, "`")
	if len(parts) != 3 {
		t.Fatalf("no command in %q", text)
	}
	return parts[1]
}

// The commands that warnings print are run: each does what it says, and no more.
func TestCommandsOfWarnings(t *testing.T) {
	runtime.LockOSThread() // for good: the thread ends with the test, and its namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
	for _, c := range []string{"link add d0 type veth peer name d1", "link set lo up", "link set d0 up", "link set d1 up",
		"addr add 10.0.0.2/24 dev d0", "addr add 10.0.0.100/32 dev d0", "addr add fd00::2/64 dev d0 nodad", "addr add fd00::100/128 dev d0 nodad"} {
		run(t, "ip "+c)
	}
	router, err := netdev.NewRouter()
	if err != nil {
		t.Fatal(err)
	}
	defer router.Close()
	want := &Desired{HAVIPs: map[netip.Addr]Want{netip.MustParseAddr("10.0.0.100"): {}, netip.MustParseAddr("fd00::100"): {}}}
	loop := NewLoop(slog.New(slog.DiscardHandler), newModel(), func() Instant { return 1 })
	look := func() []netdev.DefaultRoute {
		routing, err := router.Read()
		if err != nil {
			t.Fatal(err)
		}
		loop.seen = &Reading{Routing: routing, Addresses: map[netip.Addr][]At{ip(0): {{Index: index(t, "d0"), Device: "d0"}}}}
		return routing.Defaults
	}
	for _, route := range []string{
		"-4 route add default via 10.0.0.1 dev d0 src 10.0.0.100",
		"-4 route add default via 10.0.0.1 dev d0 src 10.0.0.100 metric 100",
		"-4 route add default dev d0 src 10.0.0.100",
		"-4 route add default via 10.0.0.1 dev d0 proto dhcp src 10.0.0.100 metric 7",
		"-6 route add default via fd00::1 dev d0 src fd00::100",
		"-6 route add default via fd00::1 dev d0 src fd00::100 metric 77",
	} {
		run(t, "ip "+route)
		before := look()
		warnings := loop.warnings(want)
		if len(warnings) != 1 {
			t.Fatalf("%s: %q", route, warnings)
		}
		run(t, quoted(t, warnings[0]))
		after := look()
		if w := loop.warnings(want); len(w) > 0 || len(after) != len(before) || after[0].Gateway != before[0].Gateway || after[0].Metric != before[0].Metric {
			t.Errorf("%s: after %s: %q, %+v, before %+v", route, quoted(t, warnings[0]), w, after, before)
		}
		run(t, "ip -4 route flush default; ip -6 route flush default")
	}
	for _, form := range []string{"10.0.0.100/16", "10.0.0.100/25", "10.0.0.100/32", "fd00::100/64"} {
		prefix := netip.MustParsePrefix(form)
		run(t, "ip addr flush dev d1; ip addr add "+form+" dev d1")
		run(t, RemoveCommand(prefix, "d1"))
		if out, _ := exec.Command("ip", "-br", "addr", "show", "dev", "d1").Output(); strings.Contains(string(out), prefix.Addr().String()) {
			t.Errorf("%s is still there: %s", form, out)
		}
	}
}

// index is that of a device of the calling thread's namespace.
func index(t testing.TB, device string) int {
	t.Helper()
	dev, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	return dev.Index
}
