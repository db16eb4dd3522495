package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"havip-cluster/api"
)

const monitoring = "../docs/monitoring"

// prometheusTool finds a program of Debian's prometheus package: where `make monitoring` puts it, or installed.
func prometheusTool(t *testing.T, name string) string {
	t.Helper()
	if path, err := filepath.Abs("../bin/prometheus/usr/bin/" + name); err == nil {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not here: `make monitoring` fetches it", name)
	}
	return path
}

// rulesFile is what the tests read of docs/monitoring/rules.yml.
type rulesFile struct {
	Groups []struct {
		Rules []struct {
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

func readRules(t *testing.T) rulesFile {
	t.Helper()
	raw, err := os.ReadFile(monitoring + "/rules.yml")
	var f rulesFile
	if err == nil {
		err = yaml.Unmarshal(raw, &f)
	}
	if err != nil || len(f.Groups) != 1 || len(f.Groups[0].Rules) < 10 {
		t.Fatalf("rules: %v, %+v", err, f)
	}
	return f
}

// TestMonitoringRules: each alert is tried with its condition and without, by promtool, and has a
// runbook of its name.
func TestMonitoringRules(t *testing.T) {
	raw, err := os.ReadFile(monitoring + "/rules_test.yml")
	var tests struct {
		Tests []struct {
			Cases []struct {
				Alert string `yaml:"alertname"`
				Exp   []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	if err == nil {
		err = yaml.Unmarshal(raw, &tests)
	}
	if err != nil {
		t.Fatal(err)
	}
	fires := map[string]bool{}
	for _, group := range tests.Tests {
		for _, c := range group.Cases {
			fires[c.Alert] = fires[c.Alert] || len(c.Exp) > 0
		}
	}
	for _, r := range readRules(t).Groups[0].Rules {
		want := "docs/runbooks/" + r.Alert + ".md"
		if _, err := os.Stat("../" + want); err != nil || r.Annotations["runbook"] != want {
			t.Errorf("%s has the runbook %q, want %s: %v", r.Alert, r.Annotations["runbook"], want, err)
		}
		if !fires[r.Alert] {
			t.Errorf("no test raises %s", r.Alert)
		}
	}
	cmd := exec.Command(prometheusTool(t, "promtool"), "test", "rules", "rules_test.yml")
	cmd.Dir = monitoring
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// documented reads the table of metrics: name and whether it is there from the start.
func documented(t *testing.T) map[string]bool {
	t.Helper()
	raw, err := os.ReadFile(monitoring + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(havip_[a-z_]+)` \\|.*$").FindAllStringSubmatch(string(raw), -1) {
		out[m[1]] = !strings.Contains(m[0], "appears with the first") && !strings.Contains(m[0], "absent otherwise")
	}
	if len(out) < 30 {
		t.Fatalf("the table has %d metrics", len(out))
	}
	return out
}

// stable are the metrics on which other programs rely.
var stable = []string{
	"havip_owner", "havip_candidates", "havip_unserved", "havip_moves_total", "havip_failover_seconds", "havip_renewal_rtt_seconds", "havip_lease_margin_seconds",
	"havip_foreign_claims_total", "havip_fence_info", "havip_certificate_expiry_seconds", "havip_announcements_total", "havip_raft_leader", "havip_raft_leader_changes_total",
	"havip_log_write_seconds", "havip_api_requests_total", "havip_api_request_seconds", "havip_build_info",
}

// metricsAreDocumented: the table and a node that owns a HAVIP show the same metrics, and no label
// holds a sentence.
func metricsAreDocumented(t *testing.T, text string) {
	t.Helper()
	table, shown := documented(t), map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (havip_[a-z_]+) `).FindAllStringSubmatch(text, -1) {
		shown[m[1]] = true
		if _, known := table[m[1]]; !known {
			t.Errorf("%s is not in %s/README.md", m[1], monitoring)
		}
	}
	for name, always := range table {
		if always && !shown[name] {
			t.Errorf("the node does not show %s", name)
		}
	}
	for _, name := range stable {
		if _, known := table[name]; !known {
			t.Errorf("%s is gone", name)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^havip_[a-z_]+\{(.*)\} `).FindAllStringSubmatch(text, -1) {
		if strings.Count(m[1], " ") > 3 {
			t.Errorf("a label with free text: %s", m[1])
		}
	}
}

// TestMonitoring: a real Prometheus with the scrape configuration of the docs, a viewer's token
// and the CA's certificate reads a live node; the alerts are loaded, and each query of the
// dashboard is one.
func TestMonitoring(t *testing.T) {
	if os.Getenv(inside) == "" {
		prometheusTool(t, "prometheus")
		insideNamespace(t)
		return
	}
	dir, client, ctx := liveNode(t)
	token, err := client.CreateAccessToken(ctx, api.AccessTokenSpec{Name: "prometheus", Role: "viewer", TTLSeconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	base := startPrometheus(ctx, t, dir, token.Token)
	for end := time.Now().Add(nodeWait); ; time.Sleep(200 * time.Millisecond) {
		if n := queried(t, base, `count(havip_build_info)`); n == 1 {
			break
		}
		if time.Now().After(end) {
			out, _ := ask(base+"/api/v1/targets", nil)
			t.Fatalf("it scrapes nothing: %s", out)
		}
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	raw, err := os.ReadFile(monitoring + "/dashboard.json")
	if err == nil {
		err = json.Unmarshal(raw, &board)
	}
	if err != nil || len(board.Panels) < 10 {
		t.Fatalf("dashboard: %v, %d panels", err, len(board.Panels))
	}
	known := documented(t)
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			expr := strings.ReplaceAll(target.Expr, "$job", "havip-cluster")
			n := queried(t, base, expr)
			for _, name := range regexp.MustCompile(`havip_[a-z_]+`).FindAllString(target.Expr, -1) {
				always, is := known[strings.TrimSuffix(name, "_bucket")]
				if !is {
					t.Errorf("%s: there is no metric %s", p.Title, name)
				}
				if always && n == 0 && !strings.Contains(expr, "rate(") && !strings.Contains(expr, "increase(") {
					t.Errorf("%s: %s finds nothing", p.Title, expr)
				}
			}
		}
	}
	for _, r := range readRules(t).Groups[0].Rules {
		queried(t, base, r.Expr)
	}
}

// startPrometheus runs one with the configuration of the docs, changed only in its paths and times.
func startPrometheus(ctx context.Context, t *testing.T, dir, token string) (base string) {
	t.Helper()
	raw, err := os.ReadFile(monitoring + "/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs(monitoring + "/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	text := string(raw)
	for from, to := range map[string]string{
		"/etc/prometheus/havip-cluster.token": home + "/token", "/etc/prometheus/havip-cluster-ca.crt": filepath.Join(dir, "ca.crt"),
		"/etc/prometheus/havip-cluster-rules.yml": rules, `"10.77.0.11:7400", "10.77.0.12:7400", "10.77.0.13:7400"`: `"127.0.0.1:7400"`, "scrape_interval: 15s": "scrape_interval: 1s",
	} {
		if !strings.Contains(text, from) {
			t.Fatalf("prometheus.yml says nothing of %s", from)
		}
		text = strings.ReplaceAll(text, from, to)
	}
	for name, content := range map[string]string{"token": token, "prometheus.yml": text} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(ctx, prometheusTool(t, "prometheus"), "--config.file="+home+"/prometheus.yml", "--storage.tsdb.path="+home+"/data",
		"--web.listen-address=127.0.0.1:9090", "--log.level=warn")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	base = "http://127.0.0.1:9090"
	for end := time.Now().Add(nodeWait); ; time.Sleep(100 * time.Millisecond) {
		if out, err := ask(base+"/api/v1/rules", nil); err == nil && strings.Contains(out, "HavipUnserved") {
			return base
		}
		if time.Now().After(end) {
			t.Fatal("Prometheus does not start")
		}
	}
}

// queried is how many series a query finds now; one that is refused fails the test.
func queried(t *testing.T, base, expr string) int {
	t.Helper()
	out, err := ask(base+"/api/v1/query", url.Values{"query": {expr}})
	var answer struct {
		Status, Error string
		Data          struct{ Result []any }
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &answer)
	}
	if err != nil || answer.Status != "success" {
		t.Errorf("%s: %v, %s", expr, err, answer.Error)
	}
	return len(answer.Data.Result)
}

func ask(target string, form url.Values) (string, error) {
	res, err := http.PostForm(target, form)
	if form == nil {
		res, err = http.Get(target)
	}
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return string(raw), err
}

// TestMarginOfTheLease: the least of the last one to two minutes, and nothing without a lease.
func TestMarginOfTheLease(t *testing.T) {
	now := time.Unix(1000, 0)
	m := margins{now: func() time.Time { return now }}
	is := func(want time.Duration) {
		t.Helper()
		if got, ok := m.read(); got != want || ok != (want != 0) {
			t.Errorf("%v %v, want %v", got, ok, want)
		}
	}
	is(0)
	m.extended(400 * time.Millisecond)
	m.extended(90 * time.Millisecond)
	m.extended(380 * time.Millisecond)
	is(90 * time.Millisecond)
	now = now.Add(70 * time.Second)
	m.extended(300 * time.Millisecond)
	is(90 * time.Millisecond)
	now = now.Add(61 * time.Second)
	is(300 * time.Millisecond)
	now = now.Add(3 * time.Minute)
	is(0)
}

// TestLabelsOfOneName: two HAVIPs of one name have two labels.
func TestLabelsOfOneName(t *testing.T) {
	s := stateWithTwoNamed(t, "web")
	label := havipLabels(s)
	var got []string
	for _, v := range s.HAVIPList() {
		got = append(got, label(v))
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != len(s.HAVIPs) {
		t.Errorf("labels %q", fmt.Sprint(got))
	}
}

// sample is the value of one series in the text of /metrics; one that is missing fails the test.
func sample(t *testing.T, text, series string) float64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Errorf("no %s", series)
	return 0
}
