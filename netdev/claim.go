package netdev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// maxAnswers bounds the different MACs that Probe collects; two are already one too many.
const maxAnswers = 16

// Claim is an ARP frame by which a foreign station says that an address is his.
type Claim struct {
	IP     netip.Addr
	MAC    net.HardwareAddr
	Device string // where it was heard
}

// ClaimListener hears ARP on one device and reports claims to watched addresses by stations that are not ours. A claim is
// evidence for an event, never a reason to give up or take an address.
type ClaimListener struct {
	index   int
	watched func(netip.Addr) bool
	ours    func(net.HardwareAddr) bool
}

// NewClaimListener returns a listener for the device of that index. watched says which addresses matter, ours which MACs
// are the host's own; Run calls both for each ARP frame, so they must be quick and safe for concurrent use.
func NewClaimListener(index int, watched func(netip.Addr) bool, ours func(net.HardwareAddr) bool) *ClaimListener {
	return &ClaimListener{index, watched, ours}
}

// Run listens until ctx ends, and returns ctx.Err(), or until the device is gone (ErrNoDevice). A device that goes down and
// comes back does not end it. report is called for each claiming frame, one at a time; it must not block, and limiting the
// rate is up to it.
//
// The socket is bound to ARP and so stands behind the ingress hooks of traffic control: it hears what the host hears.
func (l *ClaimListener) Run(ctx context.Context, report func(Claim)) error {
	conn, dev, err := listenARP(l.index, unix.ETH_P_ARP, netip.Addr{})
	if err != nil {
		return err
	}
	defer conn.Close()
	defer interrupt(ctx, conn)()
	buf := make([]byte, 128)
	for ctx.Err() == nil {
		n, _, err := conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, unix.ENETDOWN):
			if dev, err = deviceOf(l.index); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("netdev: listen on %s: %w", dev.Name, err)
		default:
			p, err := parseARP(buf[:n])
			if err != nil || !l.watched(p.SenderIP) || l.ours(p.SenderHardwareAddr) {
				continue
			}
			report(Claim{p.SenderIP, p.SenderHardwareAddr, dev.Name})
		}
	}
	return ctx.Err()
}

// Probe asks once who has ip, on the device of that index, waits for timeout and returns the MACs that answered, sorted,
// without our own. The question carries the sender address 0.0.0.0 (RFC 5227 section 2.1.1), so no cache learns from it.
// No answer proves nothing: the question may have been lost. On a fabric that answers ARP itself an answer proves nothing.
//
// IPv4 only (ErrAddress). ErrNoDevice, ErrNoMAC; ctx.Err() if ctx ends before timeout.
func Probe(ctx context.Context, index int, ip netip.Addr, timeout time.Duration) ([]net.HardwareAddr, error) {
	ip, err := hostIP(ip)
	if err != nil || !ip.Is4() {
		return nil, fmt.Errorf("%w: %v cannot be probed by ARP", ErrAddress, ip)
	}
	// All protocols instead of ARP: such a socket stands before the ingress hooks of traffic control, so the answer is heard
	// also while the fence keeps ip from the host. The filter still leaves only ARP of that sender.
	conn, dev, err := listenARP(index, unix.ETH_P_ALL, ip)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	question, err := arpProbe(dev.MAC, ip)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, fmt.Errorf("netdev: probe %v on %s: %w", ip, dev.Name, err)
	}
	defer interrupt(ctx, conn)() // after SetDeadline, which would undo it
	if err := (bareSender{conn}).WriteTo(question, ethernet.Broadcast); err != nil {
		return nil, fmt.Errorf("netdev: probe %v on %s: %w", ip, dev.Name, err)
	}
	return collectAnswers(ctx, conn, dev, ip)
}

// collectAnswers reads until the deadline of conn.
func collectAnswers(ctx context.Context, conn *packet.Conn, dev device, ip netip.Addr) ([]net.HardwareAddr, error) {
	macs := []net.HardwareAddr{}
	buf := make([]byte, 128)
	for len(macs) < maxAnswers {
		n, _, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return macs, ctx.Err()
		}
		if timedOut(err) {
			break
		}
		if err != nil {
			return macs, fmt.Errorf("netdev: probe %v on %s: %w", ip, dev.Name, err)
		}
		p, err := parseARP(buf[:n])
		if err != nil || p.SenderIP != ip || bytes.Equal(p.SenderHardwareAddr, dev.MAC) {
			continue
		}
		at, known := slices.BinarySearchFunc(macs, p.SenderHardwareAddr, func(a, b net.HardwareAddr) int { return bytes.Compare(a, b) })
		if !known {
			macs = slices.Insert(macs, at, p.SenderHardwareAddr)
		}
	}
	return macs, nil
}

// listenARP opens a packet socket for ARP on one device; sender as in arpFilter.
func listenARP(index, protocol int, sender netip.Addr) (*packet.Conn, device, error) {
	dev, err := deviceOf(index)
	if err != nil {
		return nil, dev, err
	}
	var filter []bpf.RawInstruction
	if filter, err = arpFilter(sender); err != nil {
		return nil, dev, err
	}
	// The filter is attached before the socket is bound, so no other frame ever gets in.
	conn, err := packet.Listen(&net.Interface{Index: index, Name: dev.Name}, packet.Raw, protocol, &packet.Config{Filter: filter})
	if err != nil {
		return nil, dev, fmt.Errorf("netdev: packet socket on %s: %w", dev.Name, err)
	}
	return conn, dev, nil
}

// deviceOf is readDevice with a handle of its own.
func deviceOf(index int) (device, error) {
	var d device
	err := withHandle(func(h *netlink.Handle) (err error) {
		d, err = readDevice(h, index)
		return err
	})
	return d, err
}

// interrupt ends all waiting on conn when ctx ends. The returned function is that of onDone.
func interrupt(ctx context.Context, conn net.PacketConn) (release func()) {
	return onDone(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}
