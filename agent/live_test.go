package agent

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// insideNamespace runs the calling test again, in a network namespace of its own.
func insideNamespace(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v (it needs root)\n%s", err, out)
	}
}

// liveNode runs a cluster of one node that owns the HAVIP web on a bridge, until the test ends.
func liveNode(t *testing.T) (dir string, client *api.Client, ctx context.Context) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	must(netlink.LinkAdd(bridge))
	port := netlink.NewLinkAttrs()
	port.Name, port.MasterIndex = "p0", bridge.Index
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: port, PeerName: "p1"}))
	for _, name := range []string{"p0", "p1", "br0"} {
		link, err := netlink.LinkByName(name)
		must(err)
		must(netlink.LinkSetUp(link))
	}
	address, err := netlink.ParseAddr("10.9.9.1/24")
	must(err)
	must(netlink.AddrAdd(bridge, address))

	dir, _ = dataDir(t)
	must(Bootstrap(dir))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Dir: dir, Version: "v0-test", Log: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	}()
	client = api.NewLocalClient(identity.SocketPath(dir))
	t.Cleanup(func() {
		client.Close()
		cancel()
		<-ended
	})
	awaited := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(nodeWait); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no " + what)
			}
		}
	}
	awaited("session", func() bool {
		st, err := client.Status(ctx, true)
		return err == nil && st.Leader != nil && st.Local.Session != 0
	})
	awaited("HAVIP", func() bool {
		_, err := client.CreateHAVIP(ctx, api.HAVIPSpec{Name: "web", IP: "10.9.9.100"})
		return err == nil
	})
	awaited("owner", func() bool {
		v, err := client.HAVIP(ctx, "web")
		return err == nil && v.State == string(fsm.Available)
	})
	return dir, client, ctx
}

// TestLiveMetrics: a node that owns a HAVIP shows each metric of the docs, and counts what it did.
func TestLiveMetrics(t *testing.T) {
	if os.Getenv(inside) == "" {
		insideNamespace(t)
		return
	}
	_, client, ctx := liveNode(t)
	var raw []byte
	for end := time.Now().Add(nodeWait); ; time.Sleep(100 * time.Millisecond) { // a machine that stands still loses a lease for a moment
		var err error
		if raw, err = client.Metrics(ctx); err == nil && strings.Contains(string(raw), `havip_owner{havip="web",node="n1"} 1`) && strings.Contains(string(raw), "\nhavip_lease_margin_seconds ") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no owner: %v\n%s", err, raw)
		}
	}
	metricsAreDocumented(t, string(raw))
	for name, least := range map[string]float64{
		`havip_owner{havip="web",node="n1"}`: 1, `havip_candidates{havip="web"}`: 1, `havip_moves_total{reason="placed"}`: 1,
		"havip_announcements_total": 1, "havip_raft_leader_changes_total": 1, "havip_log_write_seconds_count": 1,
		`havip_api_requests_total{code="201",method="POST",route="/v1/havips"}`: 1, `havip_api_request_seconds_count{route="/v1/status"}`: 1,
		"havip_lease_margin_seconds": 0, "havip_lease_seconds": 0.5, // how large the margin is is the machine's
	} {
		if got := sample(t, string(raw), name); got < least {
			t.Errorf("%s is %v", name, got)
		}
	}
}

// stateWithTwoNamed is a state with two HAVIPs of one name.
func stateWithTwoNamed(t *testing.T, name string) *fsm.State {
	t.Helper()
	s := fsm.New()
	s.HAVIPs = map[string]fsm.HAVIP{"h-1": {ID: "h-1", Name: name}, "h-2": {ID: "h-2", Name: name}, "h-3": {ID: "h-3", Name: "db"}}
	return s
}
