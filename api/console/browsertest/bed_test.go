package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"havip-cluster/api"
	"havip-cluster/jepsen/netns"
)

// bed is a cluster of three nodes with two ENIs each, and ways for a browser outside to its ports.
type bed struct {
	t       *testing.T
	lab     *netns.Lab
	cluster *netns.Cluster
	doors   map[int]string // address here by which node i's API is reached
}

func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// newBed forms it. before is called when the hosts are there and no agent runs yet.
func newBed(t *testing.T, before ...func(*bed)) *bed {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "havip-cluster")
	build := exec.Command("nice", "-n", "20", "go", "build", "-o", binary, "./cmd/havip-cluster") // as everybody else
	build.Dir, build.Env = "../../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	lab, err := netns.New(netns.Options{Nodes: 3, ENIs: 2})
	if err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
	t.Cleanup(func() { _ = lab.Close() })
	b := &bed{t: t, lab: lab, cluster: netns.NewCluster(lab, binary, filepath.Join(dir, "nodes")), doors: map[int]string{}}
	b.must(os.Mkdir(filepath.Join(dir, "nodes"), 0o700))
	b.cluster.LogOnFailure(t)
	for _, f := range before {
		f(b)
	}
	b.must(b.cluster.Bootstrap())
	for i := 2; i <= 3; i++ {
		b.must(b.cluster.Join(i, "voter"))
	}
	b.cli(1, "wait", "cluster", "--healthy", "--timeout", "60s")
	for i := 1; i <= 3; i++ {
		b.doors[i] = b.door(i)
	}
	return b
}

// cli runs a command at node i; it must succeed.
func (b *bed) cli(i int, args ...string) []byte {
	b.t.Helper()
	out, err := b.cluster.CLI(i, args...)
	b.must(err)
	return out
}

// ask runs a command and reads its JSON.
func (b *bed) ask(i int, into any, args ...string) {
	b.t.Helper()
	b.must(json.Unmarshal(b.cli(i, append(args, "-o", "json")...), into))
}

// door listens here and leads to the API port of node i.
func (b *bed) door(i int) string {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	b.must(err)
	b.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.pass(i, c)
		}
	}()
	return l.Addr().String()
}

func (b *bed) pass(i int, c net.Conn) {
	defer c.Close()
	var there net.Conn
	node := b.lab.Node(i)
	err := node.Do(func() (err error) {
		there, err = net.DialTimeout("tcp", net.JoinHostPort(node.IP(0).String(), "7400"), 2*time.Second)
		return err
	})
	if err != nil {
		return
	}
	defer there.Close()
	go func() {
		_, _ = io.Copy(there, c)
		_ = there.Close()
	}()
	_, _ = io.Copy(c, there)
}

// browser is a Chromium with one page, and what went wrong in it.
type browser struct {
	*bed
	ctx context.Context
	*heard
}

// heard is what the browser told by itself.
type heard struct {
	mu  sync.Mutex
	bad []string
	// bytes is what came over the network since the last look, as it was encoded.
	bytes int64
}

// newBrowser starts a Chromium of its own. Node names lead to the doors; that is all that it reaches.
func (b *bed) newBrowser() *browser {
	b.t.Helper()
	var rules []string
	for i, door := range b.doors {
		rules = append(rules, fmt.Sprintf("MAP node-%d:7400 %s", i, door))
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1280, 900), chromedp.UserDataDir(b.t.TempDir()),
		chromedp.Flag("ignore-certificate-errors", true), // the cluster's CA is known to no browser
		chromedp.Flag("host-resolver-rules", strings.Join(append(rules, "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"), ",")),
		chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("force-color-profile", "srgb"),
		chromedp.ModifyCmdFunc(aside),
	)
	alloc, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(alloc)
	b.t.Cleanup(func() { cancel(); stop() })
	w := &browser{b, ctx, &heard{}}
	chromedp.ListenTarget(ctx, w.hear)
	w.do(network.Enable(), cdplog.Enable(), runtime.Enable(), emulation.SetTimezoneOverride("Europe/Berlin"))
	return w
}

// aside has a browser run before builds and other ordinary work of the machine, and behind the agents: who looks at the
// pages has a machine of his own.
func aside(cmd *exec.Cmd) {
	cmd.Args = append([]string{"nice", "-n", "10"}, cmd.Args...) // this process is at -20
	cmd.Args[3] = cmd.Path
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // as without this function
	if path, err := exec.LookPath("nice"); err == nil {
		cmd.Path = path
	}
}

// hear keeps script errors, refusals of the Content-Security-Policy and failed requests.
func (w *heard) hear(event any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		w.bad = append(w.bad, "exception: "+e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			text := ""
			for _, a := range e.Args {
				text += " " + string(a.Value) + a.Description
			}
			w.bad = append(w.bad, "console:"+text)
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.LevelError || e.Entry.Source == cdplog.SourceSecurity {
			w.bad = append(w.bad, fmt.Sprintf("log: %s %s", e.Entry.Text, e.Entry.URL))
		}
	case *network.EventResponseReceived:
		pressed.answered(e.RequestID, e.Response.Status)
	case *network.EventLoadingFinished:
		w.bytes += int64(e.EncodedDataLength)
	case *network.EventRequestWillBeSent:
		pressed.sent(e)
		if u, err := url.Parse(e.Request.URL); err != nil || !strings.HasPrefix(u.Host, "node-") && u.Hostname() != "127.0.0.1" {
			w.bad = append(w.bad, "a request elsewhere: "+e.Request.URL)
		}
	}
}

// faults gives what went wrong since the last call, without what takes is true of.
func (w *heard) faults(takes func(string) bool) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, text := range w.bad {
		if takes == nil || !takes(text) {
			out = append(out, text)
		}
	}
	w.bad = nil
	return out
}

// weight gives what came over the network since the last call, in bytes.
func (w *heard) weight() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.bytes
	w.bytes = 0
	return n
}

// actionTime bounds what a browser is asked for.
const actionTime = 20 * time.Second

func (w *browser) try(actions ...chromedp.Action) error {
	ctx, cancel := context.WithTimeout(w.ctx, actionTime)
	defer cancel()
	return chromedp.Run(ctx, actions...)
}

func (w *browser) do(actions ...chromedp.Action) {
	w.t.Helper()
	if w.ctx.Err() == nil && chromedp.FromContext(w.ctx).Browser == nil {
		w.must(chromedp.Run(w.ctx)) // the first time starts it, and its life is that of its context
	}
	if err := w.try(actions...); err != nil {
		var text string
		_ = w.try(chromedp.Text("body", &text, chromedp.ByQuery))
		w.t.Fatalf("%v; the page says:\n%.1500s", err, text)
	}
}

// at opens a page of the console at a node.
func (w *browser) at(node int, path string) {
	w.t.Helper()
	w.do(chromedp.Navigate(fmt.Sprintf("https://node-%d:7400/console%s", node, path)), chromedp.WaitReady("#main", chromedp.ByQuery))
	w.offers()
}

// login enters a token at a node.
func (w *browser) login(node int, token string) {
	w.t.Helper()
	w.at(node, "/")
	w.do(chromedp.SendKeys("#token", token, chromedp.ByQuery), chromedp.Click("button.main", chromedp.ByQuery), chromedp.WaitVisible(".figures", chromedp.ByQuery))
}

// text is what an element says.
func (w *browser) text(selector string) string {
	w.t.Helper()
	var out string
	w.do(chromedp.Text(selector, &out, chromedp.ByQuery))
	return out
}

// eventually waits for a page to say something.
func (w *browser) eventually(selector, has string) {
	w.t.Helper()
	var last string
	for end := time.Now().Add(actionTime); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if w.try(chromedp.Text(selector, &last, chromedp.ByQuery)) == nil && strings.Contains(last, has) {
			return
		}
	}
	var how string
	_ = w.try(chromedp.Evaluate(`JSON.stringify({hidden: document.hidden, htmx: !!window.htmx, resources: performance.getEntriesByType("resource").map(e => [e.name, e.nextHopProtocol, Math.round(e.duration), e.responseStatus])})`, &how))
	w.t.Logf("the page: %s", how)
	w.t.Fatalf("%s never says %q; last: %.600q", selector, has, last)
}

// shot writes a screenshot for the docs.
func (w *browser) shot(name string) {
	w.t.Helper()
	var png []byte
	w.do(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		png, err = page.CaptureScreenshot().WithFormat(page.CaptureScreenshotFormatPng).WithOptimizeForSpeed(false).Do(ctx)
		return err
	}))
	dir := os.Getenv("HAVIP_SHOTS")
	if dir == "" {
		return
	}
	b := filepath.Join(dir, name+".png")
	w.must(os.MkdirAll(dir, 0o755))
	w.must(os.WriteFile(b, png, 0o644))
	if len(png) > shotMax {
		w.t.Errorf("%s has %d bytes, at most %d", b, len(png), shotMax)
	}
}

// shotMax is the most bytes of a screenshot.
const shotMax = 200_000

// token makes one. When the leader changes just then, its answer may be lost, and its secret is then known to nobody:
// the token is revoked and made again, as the error says.
func (b *bed) token(name, role string) string {
	b.t.Helper()
	var made api.AccessToken
	out, err := b.cluster.CLI(1, "token", "create", name, "--role", role, "-o", "json")
	if err != nil && strings.Contains(err.Error(), "revoke it") {
		b.cli(1, "token", "revoke", name)
		out, err = b.cluster.CLI(1, "token", "create", name, "--role", role, "-o", "json")
	}
	b.must(err)
	b.must(json.Unmarshal(out, &made))
	return made.Token
}

// ownerOf is the number of the node that owns a HAVIP, 0 for nobody.
func (b *bed) ownerOf(name string) int {
	b.t.Helper()
	var v api.HAVIP
	b.ask(b.running(), &v, "havip", "show", name)
	if v.Node == nil || v.State != api.StateAvailable {
		return 0
	}
	var n int
	_, err := fmt.Sscanf(*v.Node, "node-%d", &n)
	b.must(err)
	return n
}

// running is a node whose agent runs.
func (b *bed) running() int {
	for i := 1; i <= 3; i++ {
		if b.cluster.Running(i) {
			return i
		}
	}
	b.t.Fatal(errors.New("no agent runs"))
	return 0
}
