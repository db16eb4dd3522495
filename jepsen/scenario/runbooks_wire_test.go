package scenario

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"havip-cluster/membership/identity"
)

// foreignClaim: a host of the LAN that is not of the cluster has the address by mistake, and announces it.
func (w *watched) foreignClaim() {
	w.t.Helper()
	w.names = map[string]string{"NAME": "other"}
	stranger := w.Lab.Client()
	mac := stranger.MAC(0).String()
	w.names["MAC"], w.names["DEVICE"] = mac, stranger.Device(0)
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
	w.sees(1, "havip-cluster events --kind conflict --since 1h", "MAC")
	w.types(1, "havip-cluster status")
	w.does("take the address off")
	stop()
	w.host(fmt.Sprintf("ip addr del %s/32 dev %s", w.HAVIP, stranger.Device(0)))
	w.types(1, "havip-cluster havip create NAME")
	w.passes("havip-cluster agent --cleanup", "TestCleanup types it, on a host whose agent is off")
	w.ended()
	w.CLI(1, "havip", "delete", "other", "--force")
}

// host runs a shell's line on the client's host.
func (w *watched) host(line string) {
	w.t.Helper()
	_, err := w.at(w.Lab.Client(), line)
	w.must(err)
}

// servedTwice: first a target that Prometheus has kept and that shows what was an hour ago, the likely cause by the runbook; then
// also a host outside that answers for the address.
func (w *watched) servedTwice() {
	w.t.Helper()
	owner := w.Owner()
	w.names = map[string]string{"HAVIP": "web", "ADDRESS": w.HAVIP.String(), "DEVICE": w.Lab.Client().Device(0), "MAC": w.Lab.Node(owner).MAC(0).String()}
	stop := w.staleTarget(owner)
	defer stop()
	w.raised()
	w.types(1, "havip-cluster placement")
	w.types(1, "havip-cluster havip show HAVIP")
	w.types(1, "havip-cluster node list")
	w.shell(w.Lab.Client(), "arping -c 3 -I DEVICE ADDRESS")

	w.types(1, "havip-cluster havip disable HAVIP")
	w.types(1, "havip-cluster debug bundle")
	bundles, err := filepath.Glob("havip-cluster-debug-*.tar.gz") // here, as the text has no --file
	w.must(err)
	for _, file := range bundles {
		w.must(os.Remove(file))
	}
	w.types(1, "havip-cluster havip enable HAVIP")
	w.types(1, "havip-cluster wait havip HAVIP --owned --timeout 30s")
	stop()
	w.ended()
}

// staleTarget has Prometheus scrape a page that a node showed once.
func (w *watched) staleTarget(node int) (stop func()) {
	w.t.Helper()
	page := w.sh(node, fmt.Sprintf("curl -s --unix-socket %s http://localhost/metrics", identity.SocketPath(w.Cluster.DataDir(node))))
	if !strings.Contains(page, "havip_holding") {
		w.t.Fatalf("no page of metrics:\n%s", page)
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
	for !w.fires() {
		owner := w.Owner()
		w.names["NODE"] = w.Cluster.NodeName(owner)
		w.must(w.Lab.Node(owner).SetLink(0, false))
		w.NewOwner(w.other(owner), owner)
		w.must(w.Lab.Node(owner).SetLink(0, true))
		time.Sleep(time.Second)
	}
	w.raised()
	w.types(1, "havip-cluster events --kind placed --since 1h")
	w.types(1, "havip-cluster failovers")
	w.types(1, "havip-cluster node list")
	w.WaitSessions(3)
	w.types(1, "havip-cluster eni list")
	w.types(1, "havip-cluster node standby NODE")
	w.types(1, "havip-cluster explain HAVIP")
	w.types(1, "havip-cluster havip update HAVIP --failback never")
	w.types(1, "havip-cluster havip maintenance HAVIP on")
	w.ended()
	w.types(1, "havip-cluster events --kind placed --since 15m")
	w.CLI(1, "havip", "maintenance", "web", "off")
	w.CLI(1, "node", "activate", w.names["NODE"])
}

// stutters stops an agent for a while again and again, as a host does whose processor others have, until stop.
func (w *watched) stutters(node int, still, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if pid, err := w.Cluster.AgentPID(node); err == nil {
				_ = syscall.Kill(pid, syscall.SIGSTOP)
				time.Sleep(still)
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
			time.Sleep(every)
		}
	}()
	return func() { cancel(); <-done }
}
