package compare

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

// settings are what the two configurations of Keepalived differ in.
type settings struct {
	version int    // of VRRP; intervals below a second need 3
	advert  string // advert_int, seconds
	global  string // further lines of global_defs
}

var (
	// What the manuals show, and otherwise the program's own defaults.
	defaults = settings{version: 2, advert: "1"}
	// The fastest that is commonly advised, with the priority that the agents of
	// havip-cluster give themselves.
	tuned = settings{version: 3, advert: "0.1", global: "  vrrp_priority -15\n"}
)

// config is the configuration of one node. All nodes start as BACKUP and never take the
// address back, as havip-cluster does by default; advertisements go by multicast.
func (s settings) config(node int, device string, havip netip.Addr) string {
	return fmt.Sprintf(`global_defs {
  router_id node-%d
  vrrp_version %d
%s}
vrrp_instance web {
  state BACKUP
  nopreempt
  interface %s
  virtual_router_id 51
  priority %d
  advert_int %s
  virtual_ipaddress {
    %s/32 dev %s
  }
}
`, node, s.version, s.global, device, 110-10*node, s.advert, havip, device)
}

// keepalived is one daemon per node. A daemon is two processes, in one process group.
type keepalived struct {
	settings settings
	lab      *netns.Lab
	havip    netip.Addr
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

func newKeepalived(s settings) func(*netns.Lab, netip.Addr, string) (contender, error) {
	return func(l *netns.Lab, havip netip.Addr, dir string) (contender, error) {
		return &keepalived{settings: s, lab: l, havip: havip, dir: dir, daemons: make([]*daemon, nodes)}, nil
	}
}

func (k *keepalived) path(node int, kind string) string {
	return filepath.Join(k.dir, fmt.Sprintf("node%d.%s", node, kind))
}

func (k *keepalived) Start() error {
	for i := 1; i <= nodes; i++ {
		if err := k.Restart(i); err != nil {
			return err
		}
	}
	return nil
}

func (k *keepalived) Restart(node int) error {
	host := k.lab.Node(node)
	config := k.settings.config(node, host.Device(0), k.havip)
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

// Owner is the one node that has the address.
func (k *keepalived) Owner() (int, error) {
	owner := 0
	for i := 1; i <= nodes; i++ {
		if d := k.daemons[i-1]; d == nil || d.ended() {
			return 0, fmt.Errorf("keepalived does not run at node-%d", i)
		}
		has, err := k.has(i)
		if err != nil {
			return 0, err
		}
		if has && owner != 0 {
			return 0, fmt.Errorf("node-%d and node-%d both have %s", owner, i, k.havip)
		}
		if has {
			owner = i
		}
	}
	if owner == 0 {
		return 0, fmt.Errorf("no node has %s", k.havip)
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
			has = has || strings.HasPrefix(a.String(), k.havip.String()+"/")
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

func (k *keepalived) Tail() string {
	var all strings.Builder
	for i := 1; i <= nodes; i++ {
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
