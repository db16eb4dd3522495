package bench

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"havip-cluster/jepsen/netns"
)

const stopWait = 10 * time.Second // SIGTERM to exit

// vrrpSettings are what the configurations of Keepalived differ in.
type vrrpSettings struct {
	version int    // of VRRP; intervals below a second need 3
	advert  string // advert_int, seconds
	global  string // further lines of global_defs
}

// config is the configuration of one node. A single address starts as BACKUP at every node and is never
// taken back, as havip-cluster does by default. Of many each half has an instance of its own, at home at
// node 2 or 3; only the first of them is in the advertisements, as the manual advises for many.
// Advertisements go by multicast.
func (s vrrpSettings) config(node int, device string, havips []netip.Addr) string {
	var text strings.Builder
	fmt.Fprintf(&text, "global_defs {\n  router_id node-%d\n  vrrp_version %d\n%s}\n", node, s.version, s.global)
	if len(havips) == 1 {
		s.instance(&text, "single", "  nopreempt\n", 51, 110-10*node, device, havips)
		return text.String()
	}
	for half := range 2 {
		priority := 100 - 10*node
		if home(half) == node {
			priority = 150
		}
		var own []netip.Addr
		for i := half; i < len(havips); i += 2 {
			own = append(own, havips[i])
		}
		s.instance(&text, fmt.Sprintf("half%d", half), "", 51+half, priority, device, own)
	}
	return text.String()
}

func (s vrrpSettings) instance(text *strings.Builder, name, more string, id, priority int, device string, havips []netip.Addr) {
	fmt.Fprintf(text, "vrrp_instance %s {\n  state BACKUP\n%s  interface %s\n  virtual_router_id %d\n  priority %d\n  advert_int %s\n  virtual_ipaddress {\n    %s/32 dev %s\n  }\n",
		name, more, device, id, priority, s.advert, havips[0], device)
	if len(havips) > 1 {
		text.WriteString("  virtual_ipaddress_excluded {\n")
		for _, ip := range havips[1:] {
			fmt.Fprintf(text, "    %s/32 dev %s\n", ip, device)
		}
		text.WriteString("  }\n")
	}
	text.WriteString("}\n")
}

// home is the node that the i-th of many addresses belongs to.
func home(i int) int { return 2 + i%2 }

// keepalived is one daemon per node. A daemon is two processes, in one process group.
type keepalived struct {
	settings vrrpSettings
	lab      *netns.Lab
	havips   []netip.Addr
	dir      string
	daemons  []*daemon // of node i+1; nil: never started
}

type daemon struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has been waited for
}

func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

func newKeepalived(s vrrpSettings) func(*netns.Lab, string) (contender, error) {
	return func(l *netns.Lab, dir string) (contender, error) {
		return &keepalived{settings: s, lab: l, dir: dir, daemons: make([]*daemon, len(l.Nodes()))}, nil
	}
}

func (k *keepalived) path(node int, kind string) string {
	return filepath.Join(k.dir, fmt.Sprintf("node%d.%s", node, kind))
}

func (k *keepalived) Start(havips []netip.Addr) error {
	k.havips = havips
	for i := range k.daemons {
		if err := k.Restart(i + 1); err != nil {
			return err
		}
	}
	return nil
}

func (k *keepalived) Restart(node int) error {
	host := k.lab.Node(node)
	config := k.settings.config(node, host.Device(0), k.havips)
	if err := os.WriteFile(k.path(node, "conf"), []byte(config), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(k.path(node, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	cmd := host.Command("keepalived", "--dont-fork", "--vrrp", "--log-console", "--no-syslog",
		"--use-file", k.path(node, "conf"), "--pid", k.path(node, "pid"), "--vrrp_pid", k.path(node, "vrrp.pid"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := host.Start(cmd); err != nil {
		return fmt.Errorf("keepalived at node-%d: %w", node, err)
	}
	d := &daemon{cmd: cmd, done: make(chan struct{})}
	k.daemons[node-1] = d
	go func() { _ = cmd.Wait(); close(d.done) }() // ends with the process
	return nil
}

// Owner is the one node that has the first address.
func (k *keepalived) Owner() (int, error) {
	owner := 0
	for i := 1; i <= len(k.daemons); i++ {
		if d := k.daemons[i-1]; d == nil || d.ended() {
			return 0, fmt.Errorf("keepalived does not run at node-%d", i)
		}
		has, err := k.has(i)
		if err != nil {
			return 0, err
		}
		if has && owner != 0 {
			return 0, fmt.Errorf("node-%d and node-%d both have %s", owner, i, k.havips[0])
		}
		if has {
			owner = i
		}
	}
	if owner == 0 {
		return 0, fmt.Errorf("no node has %s", k.havips[0])
	}
	return owner, nil
}

func (k *keepalived) has(node int) (has bool, err error) {
	host := k.lab.Node(node)
	err = host.Do(func() error {
		device, err := net.InterfaceByName(host.Device(0))
		if err != nil {
			return err
		}
		list, err := device.Addrs()
		for _, a := range list {
			has = has || strings.HasPrefix(a.String(), k.havips[0].String()+"/")
		}
		return err
	})
	return has, err
}

func (k *keepalived) Stop(node int) error {
	d := k.daemons[node-1]
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("keepalived at node-%d: %w", node, err)
	}
	select {
	case <-d.done:
		return nil
	case <-time.After(stopWait):
		return fmt.Errorf("keepalived at node-%d has not ended %s after SIGTERM", node, stopWait)
	}
}

// Signal meets both processes: netns starts a child as the leader of a group, which the
// second process does not leave.
func (k *keepalived) Signal(node int, sig syscall.Signal) error {
	d := k.daemons[node-1]
	if err := syscall.Kill(-d.cmd.Process.Pid, sig); err != nil {
		return fmt.Errorf("keepalived at node-%d: %w", node, err)
	}
	if sig == syscall.SIGKILL {
		<-d.done
	}
	return nil
}

// Processes are the parent and the child that speaks VRRP.
func (k *keepalived) Processes(node int) ([]int, error) {
	parent := k.daemons[node-1].cmd.Process.Pid
	children, err := netns.Children(parent)
	return append([]int{parent}, children...), err
}

func (k *keepalived) Tail() string {
	var all strings.Builder
	for i := 1; i <= len(k.daemons); i++ {
		text, err := os.ReadFile(k.path(i, "log"))
		if err != nil {
			text = []byte(err.Error())
		}
		const tailBytes = 2 << 10
		fmt.Fprintf(&all, "--- node-%d\n%s\n", i, text[max(0, len(text)-tailBytes):])
	}
	return all.String()
}

func (k *keepalived) Close() (err error) {
	for i, d := range k.daemons {
		if d != nil && !d.ended() {
			err = errors.Join(err, k.Signal(i+1, syscall.SIGKILL))
		}
	}
	return err
}
