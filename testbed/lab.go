// Package testbed builds a private LAN out of network namespaces on one machine: the real
// kernel's ARP, routing, bridge and firewall between processes that believe to be hosts.
//
// Every namespace is anonymous, held open by file descriptors of this process and nothing
// else. When the process ends, in whatever way, the kernel removes namespaces, links,
// addresses and rules, and kills the child processes started within. Several labs, of one
// process or of many, do not see each other.
package testbed

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	ns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Limits of one lab: a host's number is one decimal digit of its addresses.
const (
	nodesMax   = 9
	clientsMax = 9
	enisMax    = 2
)

// The last byte of the addresses, to which the host's number (1..9) is added. HAVIPs are best
// taken from .100 on; from .240 on there is room for hosts of Attach.
const (
	offsetENI0   = 10
	offsetENI1   = 20
	offsetClient = 200
)

// carrierWait bounds the wait for links to come up: the kernel gathers carrier events for up
// to one second before it acts on them.
const carrierWait = 5 * time.Second

// ErrClosed is returned by a host's methods after Lab.Close.
var ErrClosed = errors.New("testbed: lab is closed")

// Options say what a lab consists of.
type Options struct {
	Nodes   int          // 1 to 9
	ENIs    int          // per node, 1 (default) or 2
	Clients int          // 1 (default) to 9
	Subnet  netip.Prefix // IPv4, at least a /24; default 10.77.0.0/24
}

// Lab is a private LAN: a namespace with a bridge, the switch, and one namespace for each node
// and client, attached to it by one veth pair per ENI.
type Lab struct {
	options Options
	origin  ns.NsHandle // where this process lives
	start   time.Time
	sw      *Host // the switch; no host of the LAN
	nodes   []*Host
	clients []*Host

	mu       sync.Mutex // guards what follows, and the namespace handles against Close
	closed   bool
	children map[int]*os.Process // started and not yet known to have ended
	cables   int                 // laid by Cable
	more     []*Host             // of Host and Attach
}

// New builds a lab. It needs CAP_NET_ADMIN and CAP_SYS_ADMIN in the current user namespace: be
// root, or root of a user namespace. When it returns, every link carries frames.
func New(options Options) (*Lab, error) {
	if err := options.complete(); err != nil {
		return nil, err
	}
	origin, err := ns.Get()
	if err != nil {
		return nil, fmt.Errorf("testbed: current namespace: %w", err)
	}
	l := &Lab{options: options, origin: origin, start: time.Now(), children: map[int]*os.Process{}}
	if err := l.build(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (o *Options) complete() error {
	if o.ENIs == 0 {
		o.ENIs = 1
	}
	if o.Clients == 0 {
		o.Clients = 1
	}
	if !o.Subnet.IsValid() {
		o.Subnet = netip.MustParsePrefix("10.77.0.0/24")
	}
	o.Subnet = o.Subnet.Masked()
	switch {
	case o.Nodes < 1 || o.Nodes > nodesMax:
		return fmt.Errorf("testbed: %d nodes, want 1 to %d", o.Nodes, nodesMax)
	case o.ENIs < 1 || o.ENIs > enisMax:
		return fmt.Errorf("testbed: %d ENIs, want 1 to %d", o.ENIs, enisMax)
	case o.Clients < 1 || o.Clients > clientsMax:
		return fmt.Errorf("testbed: %d clients, want 1 to %d", o.Clients, clientsMax)
	case !o.Subnet.Addr().Is4() || o.Subnet.Bits() > 24:
		return fmt.Errorf("testbed: subnet %v is not an IPv4 prefix of 24 bits or fewer", o.Subnet)
	}
	return nil
}

func (l *Lab) build() error {
	handle, err := l.namespace()
	if err != nil {
		return err
	}
	l.sw = &Host{Name: "switch", lab: l, ns: handle}
	if err := l.sw.Do(makeSwitch); err != nil {
		return fmt.Errorf("testbed: make the switch: %w", err)
	}
	for i := range l.options.Nodes {
		h, err := l.attach(fmt.Sprintf("node-%d", i+1), 0, i+1, offsetENI0, offsetENI1)
		if err != nil {
			return err
		}
		l.nodes = append(l.nodes, h)
	}
	for i := range l.options.Clients {
		h, err := l.attach(fmt.Sprintf("client-%d", i+1), 1, i+1, offsetClient)
		if err != nil {
			return err
		}
		l.clients = append(l.clients, h)
	}
	for _, h := range append(l.Nodes(), l.clients...) {
		for i := range h.enis {
			if err := h.waitCarrier(i, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeSwitch runs in the switch's namespace. The switch is pure layer 2: it has no address, and
// the IP firewall does not look into bridged frames.
func makeSwitch() error {
	if err := sysctls(map[string]string{
		"-net/ipv6/conf/all/disable_ipv6":      "1",
		"-net/ipv6/conf/default/disable_ipv6":  "1",
		"-net/bridge/bridge-nf-call-iptables":  "0",
		"-net/bridge/bridge-nf-call-ip6tables": "0",
		"-net/bridge/bridge-nf-call-arptables": "0",
	}); err != nil {
		return err
	}
	off := false
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &off}
	bridge.Name = bridgeName
	if err := netlink.LinkAdd(bridge); err != nil {
		return err
	}
	return netlink.LinkSetUp(bridge)
}

const bridgeName = "lan"

// attach makes a host with one ENI per offset and connects it to the switch. kind and number
// make its MAC addresses unique on the LAN.
func (l *Lab) attach(name string, kind byte, number int, offsets ...byte) (*Host, error) {
	handle, err := l.namespace()
	if err != nil {
		return nil, err
	}
	h := &Host{Name: name, lab: l, ns: handle}
	for i, offset := range offsets {
		if kind == 0 && i >= l.options.ENIs {
			break
		}
		h.enis = append(h.enis, eni{
			ip:   l.address(offset + byte(number)),
			mac:  net.HardwareAddr{0x02, 0x77, 0, kind, byte(number), byte(i)},
			port: fmt.Sprintf("%s.%d", name, i),
		})
	}
	err = errors.Join(h.Do(prepareHost), l.sw.Do(h.plug), h.Do(h.configure))
	if err != nil {
		_ = h.ns.Close()
		return nil, fmt.Errorf("testbed: attach %s: %w", name, err)
	}
	return h, nil
}

// prepareHost pins the sysctls that a new namespace may take from the machine's own, to the
// kernel's defaults.
func prepareHost() error {
	return sysctls(map[string]string{
		"net/ipv4/ip_forward":                "0",
		"net/ipv4/conf/all/rp_filter":        "0",
		"net/ipv4/conf/default/rp_filter":    "0",
		"net/ipv4/conf/all/arp_ignore":       "0",
		"net/ipv4/conf/default/arp_ignore":   "0",
		"net/ipv4/conf/all/arp_announce":     "0",
		"net/ipv4/conf/default/arp_announce": "0",
	})
}

// sysctls sets values for the calling thread's network namespace. A name that begins with "-" may
// be missing in this kernel, as in sysctl.d(5).
func sysctls(values map[string]string) error {
	for name, value := range values {
		name, optional := strings.CutPrefix(name, "-")
		err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0)
		if err != nil && !(optional && errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// namespace makes an anonymous network namespace.
func (l *Lab) namespace() (ns.NsHandle, error) {
	handle, failed := ns.None(), error(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if handle, failed = ns.New(); failed != nil {
			failed = fmt.Errorf("testbed: make a network namespace (this needs root, or root of a user namespace): %w", failed)
		}
		if ns.Set(l.origin) == nil {
			runtime.UnlockOSThread()
		}
	}()
	<-done
	return handle, failed
}

// address is the subnet's address with the last byte last.
func (l *Lab) address(last byte) netip.Addr {
	a := l.options.Subnet.Addr().As4()
	a[3] = last
	return netip.AddrFrom4(a)
}

// Address is the address .last of the lab's subnet; those from .100 to .199 belong to no host.
func (l *Lab) Address(last byte) netip.Addr { return l.address(last) }

// Subnet is the LAN's, masked.
func (l *Lab) Subnet() netip.Prefix { return l.options.Subnet }

// Switch is the namespace of the switch: no host of the LAN, and without an address.
func (l *Lab) Switch() *Host { return l.sw }

// Attach makes one more host with one ENI on the LAN, at the address .last, and returns when its link
// carries frames. Lab.Close takes it away like a client. kind (from 2 on) and number (1 to 9) make its MAC address.
func (l *Lab) Attach(name string, kind byte, number int, last byte) (*Host, error) {
	h, err := l.attach(name, kind, number, last-byte(number))
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.more = append(l.more, h)
	l.mu.Unlock()
	return h, h.waitCarrier(0, true)
}

// Now is the time since the lab was made, in ns: the time base of its probers.
func (l *Lab) Now() int64 { return int64(time.Since(l.start)) }

// Node returns the node of number i, counted from 1, or panics if there is none.
func (l *Lab) Node(i int) *Host { return l.nodes[i-1] }

// Nodes returns all nodes in order.
func (l *Lab) Nodes() []*Host { return append([]*Host(nil), l.nodes...) }

// Client returns the first client.
func (l *Lab) Client() *Host { return l.clients[0] }

// Clients returns all clients in order.
func (l *Lab) Clients() []*Host { return append([]*Host(nil), l.clients...) }

// Close kills the children that still run and gives the namespaces back to the kernel, which
// removes them as soon as the last socket within is closed. Stop probers and responders
// first. Calling it again has no effect.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	for pid, child := range l.children {
		_ = child.Kill()
		_ = unix.Kill(-pid, unix.SIGKILL) // what it has started itself; fails if there is nothing
	}
	err := l.origin.Close()
	for _, h := range slices.Concat([]*Host{l.sw}, l.nodes, l.clients, l.more) {
		if h != nil {
			err = errors.Join(err, h.ns.Close())
		}
	}
	return err
}
