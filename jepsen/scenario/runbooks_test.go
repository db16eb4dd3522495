package scenario

import (
	"errors"
	"fmt"
	"maps"
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
	// alertWait is how long an alert may take to begin or to end: the longest window of the shortened rules, and a minute. The
	// margin of a lease is the least of up to two minutes.
	alertWait = 3 * time.Minute
)

// walks has the walk of each runbook by the alert's name, in groups that share a cluster.
var walks = map[string][]walk{
	"members": {
		{"HavipNoSpare", (*watched).noSpare}, {"HavipUnserved", (*watched).unserved}, {"HavipNodeDown", (*watched).nodeDown},
		{"HavipFenceMissing", (*watched).fenceMissing}, {"HavipNoLeader", (*watched).noLeader}, {"HavipVersionsDiffer", (*watched).versionsDiffer},
	},
	"wire": {
		{"HavipForeignClaim", (*watched).foreignClaim}, {"HavipServedTwice", (*watched).servedTwice}, {"HavipFlapping", (*watched).flapping},
	},
	"pace": {
		{"HavipNodeBehind", (*watched).nodeBehind}, {"HavipLeaderChanges", (*watched).leaderChanges}, {"HavipLeaseMarginLow", (*watched).marginLow},
	},
	"disk":  {{"HavipLogStalled", (*watched).logStalled}, {"HavipLogSlow", (*watched).logSlow}},
	"keys":  {{"HavipCertificateExpiry", (*watched).certificateExpiry}},
	"cloud": {{"HavipCloudDrift", (*watched).cloudDrift}, {"HavipCloudSilent", (*watched).cloudSilent}, {"HavipCloudCircuitOpen", (*watched).cloudCircuitOpen}},
}

// notWalkable are the runbooks whose condition cannot be raised in namespaces, each with the reason.
var notWalkable = map[string]string{}

// walk raises the condition of one alert and follows its runbook until it has ended.
type walk struct {
	alert string
	do    func(*watched)
}

// TestEachRunbookIsWalked: the walks and what cannot be walked are the files of docs/runbooks, no more and no less.
func TestEachRunbookIsWalked(t *testing.T) {
	files, err := filepath.Glob(runbooks + "/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d runbooks, %v", len(files), err)
	}
	var texts, walked []string
	for _, file := range files {
		texts = append(texts, strings.TrimSuffix(filepath.Base(file), ".md"))
	}
	for _, group := range walks {
		for _, one := range group {
			walked = append(walked, one.alert)
		}
	}
	for name, why := range notWalkable {
		if walked = append(walked, name); why == "" {
			t.Errorf("%s is not walked, without a reason", name)
		}
	}
	if slices.Sort(walked); !slices.Equal(walked, texts) { // Glob sorts
		t.Errorf("walked or left out with a reason:\n%q\nrunbooks:\n%q", walked, texts)
	}
}

// TestRunbooksAreWalked raises each alert on the real kernel by its own condition, beside a real Prometheus, types what its runbook
// says, compares what is printed with what the runbook promises, and sees the alert end. Each command of a runbook is typed, or
// named with the reason why not.
func TestRunbooksAreWalked(t *testing.T) {
	long(t)
	for _, group := range slices.Sorted(maps.Keys(walks)) {
		t.Run(group, func(t *testing.T) {
			w := newWatched(t, group)
			for _, one := range walks[group] {
				t.Run(one.alert, func(t *testing.T) { w.walks(t, one) })
			}
		})
	}
}

// watched is a cluster with Debian's Prometheus beside it: the configuration and the rules of the docs, with shorter times.
type watched struct {
	*Bed
	cloud *cloudBed // of the group cloud; nil: none
	tools string    // folder of prometheus and promtool
	home  string    // of its files
	prom  *exec.Cmd

	alert string            // whose runbook is followed
	text  string            // of the runbook
	names map[string]string // what stands for HAVIP, NODE and so on in it
	typed map[string]bool   // commands of the text that were typed, or named with a reason
}

func newWatched(t *testing.T, group string) *watched {
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
	w := &watched{tools: tools}
	switch group {
	case "cloud":
		w.cloud = inCloud(t)
		w.Bed = w.cloud.Bed
	case "disk":
		w.Bed = unformed(t, 3)
		w.ownDisk(3)
		w.form(3)
	default:
		w.Bed = NewBed(t, 3)
	}
	w.startPrometheus()
	return w
}

// walks plays one walk, as a test of its own.
func (w *watched) walks(t *testing.T, one walk) {
	whole := *w.Bed
	defer func() { *w.Bed = whole }()
	w.t = t
	raw, err := os.ReadFile(filepath.Join(runbooks, one.alert+".md"))
	w.must(err)
	w.alert, w.text, w.names, w.typed = one.alert, string(raw), map[string]string{}, map[string]bool{}
	w.within(alertWait, one.alert+" does not fire yet", func() bool { return w.answers() && !w.fires() })
	one.do(w)
	for _, m := range regexp.MustCompile("(?m)(?:^    |`)(havip-cluster [^`\n]+)").FindAllStringSubmatch(w.text, -1) {
		if !w.typed[m[1]] {
			t.Errorf("the runbook of %s says %q: it was not typed", w.alert, m[1])
		}
	}
}

// shorter replaces in the rules of the docs: what is there at one look is told at once, and what is looked at over minutes
// ([5m], [10m], [15m]) over so many seconds. No limit is changed.
var shorter = strings.NewReplacer("[5m]", "[20s]", "[10m]", "[20s]", "[15m]", "[45s]")

// startPrometheus changes in the files of the docs only paths and times.
func (w *watched) startPrometheus() {
	w.t.Helper()
	read := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(monitoring, name))
		w.must(err)
		return string(raw)
	}
	w.home = w.t.TempDir()
	w.token("prometheus")
	w.prometheusCA()
	w.write("rules.yml", shorter.Replace(regexp.MustCompile(`(?m)^ +for: .*\n`).ReplaceAllString(read("rules.yml"), "")))
	w.write("prometheus.yml", strings.NewReplacer(
		"/etc/prometheus/havip-cluster.token", w.home+"/token", "/etc/prometheus/havip-cluster-ca.crt", w.home+"/ca.crt",
		"/etc/prometheus/havip-cluster-rules.yml", w.home+"/rules.yml", "scrape_interval: 15s", "scrape_interval: 1s", "evaluation_interval: 5s", "evaluation_interval: 1s",
	).Replace(read("prometheus.yml")))
	log, err := os.Create(filepath.Join(w.home, "log"))
	w.must(err)
	cmd := w.Lab.Client().Command(filepath.Join(w.tools, "prometheus"), "--config.file="+w.home+"/prometheus.yml", "--storage.tsdb.path="+w.home+"/data", "--web.listen-address=127.0.0.1:9090", "--log.level=warn")
	cmd.Stdout, cmd.Stderr = log, log
	w.must(w.Lab.Client().Start(cmd))
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = log.Close() })
	w.prom = cmd
	w.Eventually("Prometheus reads all three nodes", func() bool { return strings.Contains(w.asked(`count(havip_build_info) == 3`), "=> 3") })
}

func (w *watched) write(name, text string) {
	w.t.Helper()
	w.must(os.WriteFile(filepath.Join(w.home, name), []byte(text), 0o600))
}

// token makes a token for Prometheus, as docs/monitoring says.
func (w *watched) token(name string) {
	w.t.Helper()
	_, token, _ := strings.Cut(string(w.CLI(1, "token", "create", name, "--role", "viewer")), "TOKEN")
	token, _, _ = strings.Cut(strings.TrimSpace(token), "\n")
	w.write("token", token)
}

// prometheusCA gives Prometheus the CA's file of node 1.
func (w *watched) prometheusCA() {
	w.t.Helper()
	raw, err := os.ReadFile(filepath.Join(w.Cluster.DataDir(1), "ca.crt"))
	w.must(err)
	w.write("ca.crt", string(raw))
}

// reload has Prometheus read its configuration again.
func (w *watched) reload() { w.must(w.prom.Process.Signal(syscall.SIGHUP)) }

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

// within polls until ok, once in half a second.
func (w *watched) within(limit time.Duration, what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		if ok() {
			return
		}
	}
	w.t.Fatalf("%s: not within %s", what, limit)
}

// raised waits for the alert.
func (w *watched) raised() {
	w.t.Helper()
	began := time.Now()
	w.within(alertWait, w.alert+" fires", w.fires)
	w.t.Logf("%s fires after %s", w.alert, time.Since(began).Round(time.Second))
}

// ended waits for the end of the alert.
func (w *watched) ended() {
	w.t.Helper()
	began := time.Now()
	w.within(alertWait, w.alert+" has ended", func() bool { return w.answers() && !w.fires() })
	w.t.Logf("%s has ended after %s", w.alert, time.Since(began).Round(time.Second))
}

// In the commands of a runbook HAVIP stands for a name; in what is printed it is a word, and NAME stands for it.
var (
	inCommands = regexp.MustCompile(`\b(HAVIP|NODE|NAME|ADDRESS|DEVICE)\b`)
	inAnswers  = regexp.MustCompile(`\b(NODE|NAME|ADDRESS)\b`)
)

// put puts the names of this bed into a text of the runbook.
func (w *watched) put(where *regexp.Regexp, text string) string {
	return where.ReplaceAllStringFunc(text, func(word string) string {
		if name, ok := w.names[word]; ok {
			return name
		}
		if name, ok := w.names["HAVIP"]; ok && word == "NAME" {
			return name
		}
		return word
	})
}

// does demands that the runbook says something, such as what the test is about to do by other means than the program.
func (w *watched) does(text string) {
	w.t.Helper()
	if !strings.Contains(w.text, text) {
		w.t.Errorf("the runbook of %s does not say %q", w.alert, text)
	}
}

// passes says why a command of the runbook is not typed here.
func (w *watched) passes(line, why string) {
	w.t.Helper()
	if w.does(line); why == "" {
		w.t.Errorf("%s: no reason", line)
	}
	w.typed[line] = true
}

// promised reports whether an answer has a line that the runbook promises: a part of it, in which "..." stands for anything, and any
// number of blanks for one.
func (w *watched) promised(out, quote string) bool {
	parts := strings.Split(w.put(inAnswers, quote), "...")
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	wanted := regexp.MustCompile(strings.Join(parts, ".*"))
	for line := range strings.Lines(out) {
		if wanted.MatchString(strings.Join(strings.Fields(line), " ")) {
			return true
		}
	}
	return false
}

// types types a command that the runbook shows, with names put in, at a node; it must succeed. The answer has to have what the
// runbook promises beside it, in backquotes.
func (w *watched) types(at int, line string, quotes ...string) string {
	w.t.Helper()
	out, err := w.answer(at, line)
	if err != nil {
		w.t.Errorf("%s: %v", line, err)
	}
	w.compare(line, out, quotes)
	return out
}

// prints is types for a command that may fail, and says then why.
func (w *watched) prints(at int, line string, quotes ...string) {
	w.t.Helper()
	out, err := w.answer(at, line)
	if err != nil {
		out += err.Error()
	}
	w.compare(line, out, quotes)
}

func (w *watched) answer(at int, line string) (string, error) {
	w.t.Helper()
	w.does(line)
	w.typed[line] = true
	args := strings.Fields(w.put(inCommands, strings.TrimPrefix(line, "havip-cluster ")))
	out, err := w.Cluster.CLI(at, args...)
	if exit, is := errors.AsType[*netns.CLIError](err); is && exit.Code == 3 && args[0] == "status" {
		err = nil // without a leader it prints what the node knows
	}
	w.t.Logf("node %d: %s: %v\n%s", at, strings.Join(args, " "), err, out)
	return string(out), err
}

// shell types a shell's line of the runbook on a host.
func (w *watched) shell(h *netns.Host, line string, quotes ...string) string {
	w.t.Helper()
	w.does(line)
	out, err := w.at(h, w.put(inCommands, line))
	w.t.Logf("%s: %s: %v\n%s", h.Name, w.put(inCommands, line), err, out)
	w.compare(line, out, quotes)
	return out
}

func (w *watched) compare(line, out string, quotes []string) {
	w.t.Helper()
	for _, quote := range quotes {
		w.does("`" + quote + "`")
		if !w.promised(out, quote) {
			w.t.Errorf("%s: %s does not print %q:\n%s", w.alert, line, w.put(inAnswers, quote), out)
		}
	}
}

// lacks types a command whose answer must not have what the runbook says beside it: it is over.
func (w *watched) lacks(at int, line, quote string) {
	w.t.Helper()
	w.does("`" + quote + "`")
	if out := w.types(at, line); w.promised(out, quote) {
		w.t.Errorf("%s: %s still prints %q:\n%s", w.alert, line, w.put(inAnswers, quote), out)
	}
}

// sees types a command that the runbook shows until the answer has what the runbook promises.
func (w *watched) sees(at int, line, quote string) {
	w.t.Helper()
	args := strings.Fields(w.put(inCommands, strings.TrimPrefix(line, "havip-cluster ")))
	w.within(time.Minute, fmt.Sprintf("%s: %s prints %q", w.alert, line, w.put(inAnswers, quote)), func() bool {
		out, _ := w.Cluster.CLI(at, args...)
		return w.promised(string(out), quote)
	})
	w.types(at, line, quote)
}
