package scenario

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/jepsen/netns"
)

const (
	monitoring = "../../docs/monitoring"
	runbooks   = "../../docs/runbooks"
	promURL    = "http://127.0.0.1:9090" // within the client's network
)

// notWalked are the runbooks that TestRunbooksAreWalked leaves out, each with the reason. Their conditions are tried by promtool
// (docs/monitoring/rules_test.yml), and what they advise by the tests that are named.
var notWalked = map[string]string{
	"HavipServedTwice":       "it cannot be made: that is what all other tests are for",
	"HavipFlapping":          "it takes a quarter of an hour by its expression",
	"HavipForeignClaim":      "it ends five minutes after the last claim, by its expression; TestForeignClaim makes one",
	"HavipLeaseMarginLow":    "a host that is busy enough is no test that ends; calibrate has its own",
	"HavipLeaderChanges":     "it ends a quarter of an hour later, by its expression",
	"HavipNodeBehind":        "behind_test.go makes it",
	"HavipLogSlow":           "five minutes of a slow disk, by its expression",
	"HavipLogStalled":        "TestStalledDisk makes it",
	"HavipCertificateExpiry": "jepsen/scenario/keys_test.go has certificates of seconds",
	"HavipCloudDrift":        "TestCloud makes it, with a stand-in cloud",
	"HavipCloudSilent":       "TestCloud makes it, with a stand-in cloud",
	"HavipCloudCircuitOpen":  "TestCloud makes it, with a stand-in cloud",
}

// watched is a cluster with Debian's Prometheus beside it: the configuration and the rules of the docs, which fire at once here.
type watched struct {
	*Bed
	tools  string // folder of prometheus and promtool
	walked []string
	alert  string // whose runbook is followed
	text   string
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	tools, err := filepath.Abs("../../bin/prometheus/usr/bin")
	if err == nil {
		_, err = os.Stat(filepath.Join(tools, "prometheus"))
	}
	if err != nil {
		path, err := exec.LookPath("prometheus")
		if err != nil {
			t.Skip("it needs Debian's prometheus: make monitoring")
		}
		tools = filepath.Dir(path)
	}
	w := &watched{Bed: NewBed(t, 3), tools: tools}
	w.startPrometheus()
	return w
}

// startPrometheus changes in the files of the docs only paths and times.
func (w *watched) startPrometheus() {
	w.t.Helper()
	read := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(monitoring, name))
		w.must(err)
		return string(raw)
	}
	home := w.t.TempDir()
	write := func(name, text string) {
		w.t.Helper()
		w.must(os.WriteFile(filepath.Join(home, name), []byte(text), 0o600))
	}
	_, token, _ := strings.Cut(string(w.CLI(1, "token", "create", "prometheus", "--role", "viewer")), "TOKEN")
	token, _, _ = strings.Cut(strings.TrimSpace(token), "\n")
	write("token", token)
	write("rules.yml", regexp.MustCompile(`(?m)^ +for: .*\n`).ReplaceAllString(read("rules.yml"), ""))
	write("prometheus.yml", strings.NewReplacer(
		"/etc/prometheus/havip-cluster.token", home+"/token", "/etc/prometheus/havip-cluster-ca.crt", filepath.Join(w.Cluster.DataDir(1), "ca.crt"),
		"/etc/prometheus/havip-cluster-rules.yml", home+"/rules.yml", "scrape_interval: 15s", "scrape_interval: 1s", "evaluation_interval: 5s", "evaluation_interval: 1s",
	).Replace(read("prometheus.yml")))
	log, err := os.Create(filepath.Join(home, "log"))
	w.must(err)
	cmd := w.Lab.Client().Command(filepath.Join(w.tools, "prometheus"), "--config.file="+home+"/prometheus.yml", "--storage.tsdb.path="+home+"/data", "--web.listen-address=127.0.0.1:9090", "--log.level=warn")
	cmd.Stdout, cmd.Stderr = log, log
	w.must(w.Lab.Client().Start(cmd))
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = log.Close() })
	w.Eventually("Prometheus reads all three nodes", func() bool { return strings.Contains(w.asked(`count(havip_build_info) == 3`), "=> 3") })
}

// asked is the answer of Prometheus to a query, as promtool prints it.
func (w *watched) asked(query string) string {
	w.t.Helper()
	cmd := w.Lab.Client().Command(filepath.Join(w.tools, "promtool"), "query", "instant", promURL, query)
	var out strings.Builder
	cmd.Stdout = &out
	if err := w.Lab.Client().Start(cmd); err != nil {
		w.t.Fatal(err)
	}
	_ = cmd.Wait() // what it does not know yet is an empty answer
	return out.String()
}

// answers reports whether Prometheus is there and knows a node: an empty answer is none.
func (w *watched) answers() bool { return strings.Contains(w.asked("count(havip_build_info)"), "=> ") }

func (w *watched) fires() bool {
	return strings.Contains(w.asked(fmt.Sprintf(`ALERTS{alertname=%q,alertstate="firing"}`, w.alert)), w.alert)
}

// raised waits for an alert, and opens its runbook.
func (w *watched) raised(alert string) {
	w.t.Helper()
	w.alert = alert
	raw, err := os.ReadFile(filepath.Join(runbooks, alert+".md"))
	w.must(err)
	w.text, w.walked = string(raw), append(w.walked, alert)
	w.Eventually(alert+" fires", w.fires)
}

// types types a command that the runbook shows, with names put in, at a node; the answer has to hold a text.
func (w *watched) types(at int, line, says string, names ...string) {
	w.t.Helper()
	if !strings.Contains(w.text, line) {
		w.t.Fatalf("the runbook of %s does not say %q", w.alert, line)
	}
	args := strings.Fields(strings.NewReplacer(names...).Replace(strings.TrimPrefix(line, "havip-cluster ")))
	out, err := w.Cluster.CLI(at, args...)
	if exit, is := errors.AsType[*netns.CLIError](err); is && exit.Code == 3 && args[0] == "status" {
		err = nil // without a leader it prints what the node knows
	}
	w.must(err)
	if !contains(out, says) {
		w.t.Errorf("%s: %s does not say %q:\n%s", w.alert, line, says, out)
	}
}

// does demands that the runbook says what the test is about to do by other means than the program.
func (w *watched) does(text string) {
	w.t.Helper()
	if !strings.Contains(w.text, text) {
		w.t.Fatalf("the runbook of %s does not say %q", w.alert, text)
	}
}

func (w *watched) ended() {
	w.t.Helper()
	w.Eventually(w.alert+" has ended", func() bool { return w.answers() && !w.fires() })
}

// TestRunbooksAreWalked raises alerts on the real kernel, types what their runbooks say, and sees them end.
func TestRunbooksAreWalked(t *testing.T) {
	long(t)
	w := newWatched(t)
	w.noSpare()
	w.unserved()
	w.nodeDown()
	w.fenceMissing()
	w.noLeader()
	w.versionsDiffer()
	files, err := filepath.Glob(runbooks + "/*.md")
	w.must(err)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".md")
		if why, left := notWalked[name]; left == slices.Contains(w.walked, name) {
			t.Errorf("%s: walked %t, left out %t (%s)", name, !left, left, why)
		}
	}
}

func (w *watched) noSpare() {
	w.t.Helper()
	w.CLI(1, "havip", "create", "solo", "--ip", w.Lab.Address(101).String(), "--range", "cvm:node-3")
	w.raised("HavipNoSpare")
	w.types(1, "havip-cluster explain HAVIP", "node-3", "HAVIP", "solo")
	w.types(1, "havip-cluster node list", "node-3")
	w.types(1, "havip-cluster plan --n-1", "solo")
	w.types(1, "havip-cluster havip range add HAVIP NODE", "", "HAVIP", "solo", "NODE", "node-2")
	w.ended()
	w.CLI(1, "havip", "range", "remove", "solo", "node-2")
}

func (w *watched) unserved() {
	w.t.Helper()
	w.CLI(1, "node", "standby", "node-3")
	w.raised("HavipUnserved")
	w.types(1, "havip-cluster status", "HAVIP solo has no owner")
	w.types(1, "havip-cluster explain HAVIP", "standby", "HAVIP", "solo")
	w.types(1, "havip-cluster events --havip HAVIP --since 1h", "solo", "HAVIP", "solo")
	w.CLI(1, "node", "activate", "node-3") // what explain says would change it
	w.types(1, "havip-cluster wait havip HAVIP --owned --timeout 30s", "", "HAVIP", "solo")
	w.ended()
	w.CLI(1, "havip", "delete", "solo", "--force")
}

func (w *watched) nodeDown() {
	w.t.Helper()
	w.must(w.Cluster.Kill(3, syscall.SIGKILL))
	w.must(w.Cluster.AwaitEnd(3))
	w.raised("HavipNodeDown")
	w.Eventually("it is called lost", func() bool { return contains(w.CLI(1, "node", "list"), "lost") })
	w.types(1, "havip-cluster node list", "lost")
	w.types(1, "havip-cluster placement", "web")
	w.does("It says `lost`: look at the host")
	w.must(w.Cluster.Start(3))
	w.types(1, "havip-cluster wait node NODE --alive --timeout 1m", "", "NODE", "node-3")
	w.ended()
}

func (w *watched) fenceMissing() {
	w.t.Helper()
	before := w.Cluster.AgentArgs
	w.Cluster.AgentArgs = append(slices.Clone(before), "--no-fence")
	w.must(w.Cluster.Restart(3))
	w.WaitSessions(3)
	w.raised("HavipFenceMissing")
	w.types(3, "havip-cluster status", "it has no fence")
	w.types(1, "havip-cluster node standby NODE", "standby", "NODE", "node-3")
	w.does("Take `--no-fence` out of the unit")
	w.Cluster.AgentArgs = before
	w.must(w.Cluster.Restart(3))
	w.Eventually("it is back", func() bool {
		_, err := w.Cluster.CLI(1, "node", "activate", "node-3")
		return err == nil
	})
	w.types(1, "havip-cluster node activate NODE", "", "NODE", "node-3")
	w.ended()
	w.WaitSessions(3)
}

func (w *watched) noLeader() {
	w.t.Helper()
	for _, i := range []int{2, 3} {
		w.must(w.Cluster.Kill(i, syscall.SIGKILL))
		w.must(w.Cluster.AwaitEnd(i))
	}
	w.raised("HavipNoLeader")
	w.types(1, "havip-cluster status", "no leader is known")
	w.does("A majority is off: start them")
	for _, i := range []int{2, 3} {
		w.must(w.Cluster.Start(i))
	}
	w.does("havip-cluster wait cluster --healthy --timeout 1m") // not typed: what died often lately keeps it yellow for longer
	w.WaitSessions(3)
	w.ended()
}

func (w *watched) versionsDiffer() {
	w.t.Helper()
	now := w.Cluster.Binary
	w.Cluster.Binary = build(w.t, ".", "other")
	w.must(w.Cluster.Restart(3))
	w.Cluster.Binary = now
	w.WaitSessions(3)
	w.raised("HavipVersionsDiffer")
	w.Eventually("its version is heard of", func() bool { return contains(w.CLI(1, "node", "list"), "other") }) // by gossip
	w.types(1, "havip-cluster node list", "other")
	w.does("Upgrade the ones that are behind")
	w.must(w.Cluster.Restart(3))
	w.types(1, "havip-cluster wait node NODE --alive", "", "NODE", "node-3")
	w.ended()
	time.Sleep(settleTime)
}
