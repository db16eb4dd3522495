// Package ovn puts Open Virtual Network under a test bed in place of the kernel's bridge: a fabric that nobody here
// wrote, and the one below most OpenStack clouds. Each node is on a hypervisor (a chassis) of its own, with tunnels
// between them, and a HAVIP is a logical port of type virtual. Open vSwitch runs with its user-space datapath, so no
// module of the kernel is needed: packet sockets on veth pairs, and /dev/net/tun.
//
// All daemons are children of this process, in namespaces of the test bed, with sockets, databases and logs in one
// directory; they end with Close, with the lab, or with this process.
package ovn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"havip-cluster/jepsen/netns"
)

const (
	toolWait  = 20 * time.Second // one command
	readyWait = 10 * time.Second // for a daemon's socket
	tailBytes = 2 << 10          // of each log, that Tails shows
	// mtu of the hosts leaves room for a tunnel's head (Geneve: 58 bytes, and what OVN adds).
	mtu = 1400
)

// Networks: that of the lab is the logical switch "lan"; a client on "far" reaches it through a logical router.
var (
	farNet    = netip.MustParsePrefix("10.78.0.0/24")
	farRouter = netip.MustParseAddr("10.78.0.1")
	farHost   = netip.MustParseAddr("10.78.0.10")
)

// lanRouter is the last byte of the router's address in the lab's network.
const lanRouter = 1

// Fabric is a running OVN.
type Fabric struct {
	lab      *netns.Lab
	tools    string // where the packages are unpacked
	dir      string
	chassis  []*chassis // of each node, and one more for the clients
	far      *netns.Host
	daemons  []*daemon
	bindings bindings
}

type daemon struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// Start builds it and moves the lab's nodes and clients over; observers stay at the lab's bridge, which becomes one
// more port. tools is the directory in which Debian's packages openvswitch-switch, openvswitch-common, ovn-central,
// ovn-common and ovn-host are unpacked. Call Close at the end, also when Start fails.
func Start(lab *netns.Lab, tools string) (*Fabric, error) {
	f := &Fabric{lab: lab, tools: tools}
	var err error
	if f.dir, err = os.MkdirTemp("", "ovn-"); err != nil { // short: a socket's name has 107 bytes
		return f, err
	}
	if f.far, err = lab.Host("far"); err != nil {
		return f, err
	}
	if err := f.central(); err != nil {
		return f, err
	}
	if err := lab.Switch().Do(underlay); err != nil {
		return f, fmt.Errorf("ovn: the hypervisors' network: %w", err)
	}
	for i := range len(lab.Nodes()) + 1 {
		c, err := f.hypervisor(i + 1)
		if err != nil {
			return f, fmt.Errorf("ovn: chassis %d: %w", i+1, err)
		}
		f.chassis = append(f.chassis, c)
	}
	if err := f.network(); err != nil {
		return f, err
	}
	_, err = f.nb("--wait=hv", "sync")
	return f, err
}

// central starts the databases and northd, in the switch's namespace: they have nothing to do with its network.
func (f *Fabric) central() error {
	for name, schema := range map[string]string{"nb": "ovn-nb.ovsschema", "sb": "ovn-sb.ovsschema"} {
		if err := f.database(f.lab.Switch(), f.dir, name, filepath.Join(f.tools, "usr/share/ovn", schema)); err != nil {
			return err
		}
	}
	err := f.start(f.lab.Switch(), f.dir, "ovn-northd", "--ovnnb-db="+f.socket("nb"), "--ovnsb-db="+f.socket("sb"), "--unixctl="+filepath.Join(f.dir, "northd.ctl"))
	return errors.Join(err, f.watch())
}

// database makes an empty one of a schema and starts a server for it, with the socket dir/name.sock.
func (f *Fabric) database(h *netns.Host, dir, name, schema string) error {
	file := filepath.Join(dir, name+".db")
	if _, err := f.run(h, dir, "ovsdb-tool", "create", file, schema); err != nil {
		return err
	}
	socket := filepath.Join(dir, name+".sock")
	if err := f.start(h, dir, "ovsdb-server", "--remote=punix:"+socket, "--unixctl="+filepath.Join(dir, name+".ctl"), file); err != nil {
		return err
	}
	return appears(socket)
}

func (f *Fabric) socket(database string) string {
	return "unix:" + filepath.Join(f.dir, database+".sock")
}

// nb runs a command at the northbound database, which says what there is to be.
func (f *Fabric) nb(args ...string) (string, error) {
	return f.run(f.lab.Switch(), f.dir, "ovn-nbctl", append([]string{"--timeout=15", "--db=" + f.socket("nb")}, args...)...)
}

// find is the path of a program of the packages.
func (f *Fabric) find(name string) (string, error) {
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib/openvswitch-switch"} {
		path := filepath.Join(f.tools, dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
	}
	return "", fmt.Errorf("ovn: %s is not in %s", name, f.tools)
}

// command prepares a program that keeps everything in dir.
func (f *Fabric) command(h *netns.Host, dir, name string, args ...string) (*exec.Cmd, error) {
	path, err := f.find(name)
	if err != nil {
		return nil, err
	}
	cmd := h.Command(path, args...)
	cmd.Env = os.Environ()
	for _, of := range []string{"OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR", "OVN_RUNDIR", "OVN_LOGDIR", "OVN_DBDIR", "OVN_SYSCONFDIR"} {
		cmd.Env = append(cmd.Env, of+"="+dir)
	}
	cmd.Env = append(cmd.Env, "OVS_PKGDATADIR="+filepath.Join(f.tools, "usr/share/openvswitch"), "OVN_PKGDATADIR="+filepath.Join(f.tools, "usr/share/ovn"))
	return cmd, nil
}

// run runs a program to its end.
func (f *Fabric) run(h *netns.Host, dir, name string, args ...string) (string, error) {
	cmd, err := f.command(h, dir, name, args...)
	if err != nil {
		return "", err
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := h.Start(cmd); err != nil {
		return "", err
	}
	timer := time.AfterFunc(toolWait, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("ovn: %s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// start starts a daemon; what it says goes to a file of its name in dir.
func (f *Fabric) start(h *netns.Host, dir, name string, args ...string) error {
	return f.startTo(nil, h, dir, name, args...)
}

// startTo is start with an own place for what goes to standard output.
func (f *Fabric) startTo(out io.Writer, h *netns.Host, dir, name string, args ...string) error {
	cmd, err := f.command(h, dir, name, args...)
	if err != nil {
		return err
	}
	// The fabric is other machines' work: a busy one here is not to slow it down.
	cmd.Args = append([]string{"nice", "-n", "-19"}, append([]string{cmd.Path}, args...)...)
	if cmd.Path, err = exec.LookPath("nice"); err != nil {
		return err
	}
	d := &daemon{cmd: cmd, log: filepath.Join(dir, fmt.Sprintf("%s-%d.log", name, len(f.daemons))), done: make(chan struct{})}
	log, err := os.Create(d.log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if out != nil {
		cmd.Stdout = out
	}
	if err := h.Start(cmd); err != nil {
		return err
	}
	f.daemons = append(f.daemons, d)
	go func() {
		_ = cmd.Wait()
		close(d.done)
	}()
	return nil
}

// Close ends the daemons and removes their directory.
func (f *Fabric) Close() error {
	for i := len(f.daemons) - 1; i >= 0; i-- {
		_ = f.daemons[i].cmd.Process.Kill()
		<-f.daemons[i].done
	}
	f.daemons = nil
	if f.dir == "" {
		return nil
	}
	return os.RemoveAll(f.dir)
}

// Tails is the end of each daemon's log, for a test that failed.
func (f *Fabric) Tails() string {
	var b strings.Builder
	for _, d := range f.daemons {
		text, err := os.ReadFile(d.log)
		if err != nil {
			continue
		}
		fmt.Fprintf(&b, "--- %s\n%s\n", d.log, text[max(0, len(text)-tailBytes):])
	}
	return b.String()
}

// appears waits for a socket.
func appears(path string) error {
	for end := time.Now().Add(readyWait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("unix", path); err == nil {
			return c.Close()
		}
	}
	return fmt.Errorf("ovn: nobody listens at %s after %s", path, readyWait)
}
