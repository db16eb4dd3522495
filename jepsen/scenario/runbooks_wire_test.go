package scenario

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"havip-cluster/membership/identity"
)

// foreignClaim: a host of the LAN that is not of the cluster has the address by mistake, and announces it.
func (w *watched) foreignClaim() {
	w.t.Helper()
	stranger := w.Lab.Client()
	w.names = map[string]string{"NAME": "other", "ADDRESS": w.HAVIP.String()}
	ctx, stop := context.WithCancel(w.t.Context())
	defer stop()
	w.host(fmt.Sprintf("ip addr add %s/32 dev %s", w.HAVIP, stranger.Device(0)))
	go func() { // as a host does that takes an address, and Keepalived again and again
		for ctx.Err() == nil {
			_, _ = w.at(stranger, fmt.Sprintf("arping -U -c 1 -I %s %s", stranger.Device(0), w.HAVIP))
			time.Sleep(time.Second)
		}
	}()
	w.raised()
	const says = "a station outside the cluster, ... claims ADDRESS"
	w.sees(1, "havip-cluster events --kind conflict --since 1h", says)
	if out := w.types(1, "havip-cluster status", says); !strings.Contains(out, stranger.MAC(0).String()) {
		w.t.Errorf("status does not name the MAC of the station:\n%s", out)
	}
	if out, err := w.at(w.Lab.Node(1), "ping -c 1 -W 1 "+stranger.IP(0).String()+"; ip neigh show"); err != nil || !strings.Contains(out, stranger.MAC(0).String()) {
		w.t.Errorf("ip neigh show has no %s: %v %s", stranger.MAC(0), err, out)
	}
	w.does("`ip neigh show` on a host of the LAN")
	w.does("take the address off")
	stop()
	w.host(fmt.Sprintf("ip addr del %s/32 dev %s", w.HAVIP, stranger.Device(0)))
	w.types(1, "havip-cluster havip create NAME")
	w.passes("havip-cluster agent --cleanup", "TestCleanup types it, on a host whose agent is off")
	w.ended()
	w.within(2*time.Minute, "status does not say it any more", func() bool { return !w.promised(string(w.CLI(1, "status")), says) })
	w.lacks(1, "havip-cluster status", says)
	w.passes("havip-cluster events --kind conflict --since 5m", "it takes five minutes; status takes one")
	w.CLI(1, "havip", "delete", "other", "--force")
}

// host runs a shell's line on the client's host.
func (w *watched) host(line string) {
	w.t.Helper()
	_, err := w.at(w.Lab.Client(), line)
	w.must(err)
}

// servedTwice: first a target that Prometheus has kept and that shows what was once, the likely cause by the runbook; then a host
// outside answers for the address as well.
func (w *watched) servedTwice() {
	w.t.Helper()
	owner := w.Owner()
	client, wire := w.Lab.Client(), "arping -c 3 -I DEVICE ADDRESS"
	w.names = map[string]string{"HAVIP": "web", "ADDRESS": w.HAVIP.String(), "DEVICE": client.Device(0), "NODE": w.Cluster.NodeName(owner)}
	stop := w.staleTarget(owner)
	w.raised()
	if out := w.types(1, "havip-cluster placement"); strings.Count(out, "web") != 1 || !hasLine(out, "web", w.names["NODE"]) {
		w.t.Errorf("placement:\n%s", out)
	}
	if out := w.types(1, "havip-cluster havip show HAVIP"); !hasLine(out, "NODE", w.names["NODE"]) {
		w.t.Errorf("havip show:\n%s", out)
	}
	w.types(1, "havip-cluster node list")
	if macs := answering(w.shell(client, wire, "reply from ADDRESS")); len(macs) != 1 {
		w.t.Errorf("%q answer, and only the owner should", macs)
	}
	w.does("look at the scrape configuration")

	stranger, err := w.Lab.Attach("stranger", 2, 1, 202)
	w.must(err)
	add := fmt.Sprintf("ip addr add %s/32 dev %s", w.HAVIP, stranger.Device(0))
	_, err = w.at(stranger, add)
	w.must(err)
	if macs := answering(w.shell(client, wire, "reply from ADDRESS")); len(macs) != 2 {
		w.t.Errorf("%q answer, and two should", macs)
	}
	w.types(1, "havip-cluster havip disable HAVIP", "UNBIND (disabled)")
	w.Eventually("the owner to be silent", func() bool { return !w.has(owner) })
	if macs := answering(w.shell(client, wire, "reply from ADDRESS")); len(macs) != 1 || macs[0] != strings.ToUpper(stranger.MAC(0).String()) {
		w.t.Errorf("%q answer, and only the stranger should", macs)
	}
	w.types(1, "havip-cluster debug bundle")
	bundles, err := filepath.Glob("havip-cluster-debug-*.tar.gz") // here, as the text has no --file
	w.must(err)
	if len(bundles) == 0 {
		w.t.Error("no bundle was written")
	}
	for _, file := range bundles {
		w.must(os.Remove(file))
	}
	_, err = w.at(stranger, strings.Replace(add, " add ", " del ", 1))
	w.must(err)
	w.types(1, "havip-cluster havip enable HAVIP")
	w.types(1, "havip-cluster wait havip HAVIP --owned --timeout 30s", "HAVIP NAME is served")
	stop()
	w.ended()
}

// answering are the MACs that arping has heard, sorted.
func answering(out string) (macs []string) {
	for _, m := range regexp.MustCompile(`\[([0-9A-Fa-f:]{17})\]`).FindAllStringSubmatch(out, -1) {
		macs = append(macs, strings.ToUpper(m[1]))
	}
	slices.Sort(macs)
	return slices.Compact(macs)
}

// staleTarget has Prometheus scrape a page that a node showed once, and does no more.
func (w *watched) staleTarget(node int) (stop func()) {
	w.t.Helper()
	page := w.sh(node, fmt.Sprintf("curl -s --unix-socket %s http://localhost/metrics", identity.SocketPath(w.Cluster.DataDir(node))))
	if !strings.Contains(page, "havip_holding{") {
		w.t.Fatalf("node %d does not say that it holds something:\n%s", node, page)
	}
	var l net.Listener
	w.must(w.Lab.Client().Do(func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:9100"); return err }))
	s := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write([]byte(page)) })}
	go func() { _ = s.Serve(l) }()
	before, err := os.ReadFile(filepath.Join(w.home, "prometheus.yml"))
	w.must(err)
	w.write("prometheus.yml", string(before)+"  - job_name: stale\n    static_configs: [{targets: ['127.0.0.1:9100']}]\n")
	w.reload()
	return func() {
		_ = s.Close()
		w.write("prometheus.yml", string(before))
		w.reload()
	}
}

// flapping: the owner's link comes and goes.
func (w *watched) flapping() {
	w.t.Helper()
	w.names = map[string]string{"HAVIP": "web"}
	owner := w.Owner()
	for i := 0; i < 3; i++ {
		owner = w.Owner()
		w.must(w.Lab.Node(owner).SetLink(0, false))
		w.NewOwner(w.other(owner), owner)
		if i == 2 {
			break
		}
		w.must(w.Lab.Node(owner).SetLink(0, true))
		w.WaitSessions(3)
	}
	w.raised()
	at := w.other(owner)
	w.names["NODE"] = w.Cluster.NodeName(w.Owner())
	w.types(at, "havip-cluster events --kind placed --since 1h", "goes to NODE")
	w.types(at, "havip-cluster failovers")
	w.types(at, "havip-cluster node list")
	w.must(w.Lab.Node(owner).SetLink(0, true)) // "repair it"
	w.WaitSessions(3)
	w.names["NODE"] = w.Cluster.NodeName(owner)
	w.types(at, "havip-cluster eni list")
	w.types(at, "havip-cluster node standby NODE")
	w.types(at, "havip-cluster explain HAVIP")
	w.types(at, "havip-cluster havip update HAVIP --failback never")
	w.types(at, "havip-cluster havip maintenance HAVIP on")
	quiet := w.types(at, "havip-cluster events --kind placed --since 15m")
	w.ended()
	if now := w.types(at, "havip-cluster events --kind placed --since 15m"); strings.Count(now, "goes to") > strings.Count(quiet, "goes to") {
		w.t.Errorf("owners have changed since:\n%s", now)
	}
	w.types(at, "havip-cluster havip maintenance HAVIP off")
	w.types(at, "havip-cluster node activate NODE")
}
