package testbed

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"havip-cluster/testbed/labtest"
)

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{}, {Nodes: 10}, {Nodes: 1, ENIs: 3}, {Nodes: 1, Clients: 10},
		{Nodes: 1, Subnet: netip.MustParsePrefix("10.0.0.0/25")}, {Nodes: 1, Subnet: netip.MustParsePrefix("fd00::/24")},
	} {
		if l, err := New(o); err == nil {
			t.Errorf("%+v: accepted", o)
			_ = l.Close()
		}
	}
}

func TestEverybodyReachesEverybody(t *testing.T) {
	l := newLab(t, Options{Nodes: 3, ENIs: 2, Clients: 2})
	for _, from := range append(l.Nodes(), l.Clients()...) {
		for _, to := range l.Nodes() {
			for eni := range 2 {
				if !reaches(t, from, to.IP(eni), labtest.PatienceOpen) {
					t.Errorf("%s does not reach %s at %v", from.Name, to.Name, to.IP(eni))
				}
			}
		}
	}
	if got := l.Node(2).IP(1).String(); got != "10.77.0.22" {
		t.Errorf("second ENI of node 2 has %s", got)
	}
}

func TestHostSeesOnlyItsDevices(t *testing.T) {
	l := newLab(t, Options{Nodes: 1, ENIs: 2})
	var names []string
	labtest.Must(t, l.Node(1).Do(func() error {
		links, err := net.Interfaces()
		for _, link := range links {
			names = append(names, link.Name)
		}
		return err
	}))
	if slices.Sort(names); !slices.Equal(names, []string{"eth0", "eth1", "lo"}) {
		t.Errorf("devices %v", names)
	}
}

// TestDoLeavesThreadsAlone: many calls at once, leave no thread of the process in another namespace.
func TestDoLeavesThreadsAlone(t *testing.T) {
	l := newLab(t, Options{Nodes: 2})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			h := l.Node(1 + i%2)
			err := h.Do(func() error {
				here, err := ns.Get()
				if err != nil {
					return err
				}
				defer here.Close()
				if !here.Equal(h.ns) {
					return fmt.Errorf("%s: in %v", h.Name, here)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	eventually(t, "threads in a namespace of the lab", func() bool { return len(holders(t, inodes(l), "task")) == 0 })
}

func TestSideBySide(t *testing.T) {
	a, b := newLab(t, Options{Nodes: 1}), newLab(t, Options{Nodes: 2})
	if !reaches(t, a.Client(), a.Node(1).IP(0), labtest.PatienceOpen) || !reaches(t, b.Client(), b.Node(2).IP(0), labtest.PatienceOpen) {
		t.Error("a lab does not work beside another")
	}
	if reaches(t, a.Client(), b.Node(2).IP(0), labtest.PatienceCut) {
		t.Error("two labs with the same addresses reach each other")
	}
}

func TestLinkCut(t *testing.T) {
	l := newLab(t, Options{Nodes: 2})
	n := l.Node(1)
	for range 2 {
		labtest.Must(t, n.SetLink(0, false))
		if up := labtest.Try(t, func() (bool, error) { return n.Carrier(0) }); up {
			t.Error("the node still sees a carrier")
		}
		if reaches(t, l.Client(), n.IP(0), labtest.PatienceCut) || reaches(t, n, l.Node(2).IP(0), labtest.PatienceCut) {
			t.Error("traffic over a cut link")
		}
		if !reaches(t, l.Client(), l.Node(2).IP(0), labtest.PatienceOpen) {
			t.Error("the other node is cut too")
		}
		start := time.Now()
		labtest.Must(t, n.SetLink(0, true))
		t.Logf("link up after %v", time.Since(start))
		if !reaches(t, l.Client(), n.IP(0), labtest.PatienceOpen) {
			t.Error("no traffic after the link came back")
		}
	}
}

func TestChildEndsWithLab(t *testing.T) {
	l := newLab(t, Options{Nodes: 1})
	cmd := l.Node(1).Command("sleep", "1000")
	labtest.Must(t, l.Node(1).Start(cmd))
	time.Sleep(300 * time.Millisecond) // outlives the thread that would be reused otherwise
	link := readlink(t, fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	if !slices.Contains(inodes(l), link) {
		t.Errorf("child runs in %s, not in the lab", link)
	}
	labtest.Must(t, l.Close())
	if err := cmd.Wait(); !killed(err) {
		t.Errorf("child ended with %v, want SIGKILL", err)
	}
	if err := l.Node(1).Start(l.Node(1).Command("true")); !errors.Is(err, ErrClosed) {
		t.Errorf("start in a closed lab: %v", err)
	}
}

func killed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// TestCloseLeavesNothing: after Close no process, thread, descriptor or mount holds any of the
// lab's namespaces, so the kernel has freed them, and no named one has appeared.
func TestCloseLeavesNothing(t *testing.T) {
	named := namedNamespaces(t)
	l, err := New(Options{Nodes: 2})
	labtest.Must(t, err)
	stop, err := l.Node(1).Respond(DefaultPort)
	labtest.Must(t, err)
	p := labtest.Try(t, func() (*Prober, error) { return l.Probe(t.Context(), l.Client(), l.Node(1).IP(0), DefaultPort, 0) })
	_, err = l.Attach("guest-1", 2, 1, 241)
	labtest.Must(t, err)
	all := inodes(l)
	if len(holders(t, all, "fd")) == 0 {
		t.Fatal("the search does not even find the open lab")
	}
	p.Stop()
	stop()
	labtest.Must(t, l.Close())
	labtest.Must(t, l.Close())
	eventually(t, "something holds a namespace", func() bool { return len(holders(t, all, "")) == 0 })
	if now := namedNamespaces(t); !slices.Equal(named, now) {
		t.Errorf("named namespaces were %v and are %v", named, now)
	}
}

// TestKilledProcessLeavesNothing: SIGKILL of a process with a lab ends its children and frees
// its namespaces.
func TestKilledProcessLeavesNothing(t *testing.T) {
	named := namedNamespaces(t)
	owner := exec.Command(labtest.Try(t, os.Executable))
	owner.Env = append(os.Environ(), labEnv+"=1")
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	labtest.Must(t, err)
	labtest.Must(t, owner.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = owner.Process.Kill()
		t.Fatal(err)
	}
	fields := strings.Fields(line)
	child, all := fields[0], fields[1:]
	if got := readlink(t, filepath.Join("/proc", child, "ns/net")); !slices.Contains(all, got) {
		t.Errorf("child in %s, not in one of %v", got, all)
	}
	labtest.Must(t, owner.Process.Kill())
	_ = owner.Wait()
	eventually(t, "something holds a namespace", func() bool { return len(holders(t, all, "")) == 0 })
	if now := namedNamespaces(t); !slices.Equal(named, now) {
		t.Errorf("named namespaces were %v and are %v", named, now)
	}
}

// liveUntilKilled builds a lab with a child, prints the child's pid and the namespaces, and waits.
func liveUntilKilled() error {
	l, err := New(Options{Nodes: 2})
	if err != nil {
		return err
	}
	cmd := l.Node(1).Command("sleep", "1000")
	if err := l.Node(1).Start(cmd); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid, strings.Join(inodes(l), " "))
	time.Sleep(time.Minute)
	return errors.New("nobody killed me")
}

// inodes names the lab's namespaces as links in /proc do.
func inodes(l *Lab) []string {
	var list []string
	for _, h := range append(append([]*Host{l.sw}, l.Nodes()...), l.Clients()...) {
		var stat unix.Stat_t
		if unix.Fstat(int(h.ns), &stat) == nil {
			list = append(list, fmt.Sprintf("net:[%d]", stat.Ino))
		}
	}
	return list
}

// holders lists what holds one of the namespaces: "task" (threads), "fd" or, if kind is empty,
// those and mounts. A process that ends while being looked at is no holder.
func holders(t *testing.T, namespaces []string, kind string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/proc/[0-9]*/task/*/ns/net", "/proc/[0-9]*/fd/*"} {
		if kind != "" && !strings.Contains(pattern, kind) {
			continue
		}
		links, err := filepath.Glob(pattern)
		labtest.Must(t, err)
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && slices.Contains(namespaces, to) {
				found = append(found, link)
			}
		}
	}
	if kind == "" {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		labtest.Must(t, err)
		for _, n := range namespaces {
			if strings.Contains(string(mounts), n) {
				found = append(found, "mount of "+n)
			}
		}
	}
	return found
}

func readlink(t *testing.T, path string) string {
	t.Helper()
	to, err := os.Readlink(path)
	labtest.Must(t, err)
	return to
}

func namedNamespaces(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("/run/netns/*")
	labtest.Must(t, err)
	return names
}

// eventually waits for the kernel to finish what it does in the background.
func eventually(t *testing.T, failure string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(failure)
		}
	}
}
