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
	"golang.org/x/sys/unix"
)

// maxAnswers bounds the different MACs that are collected for one address; two are already one too many.
const maxAnswers = 16

// ProbeAll asks once for each of ips who has it, on the device of that index, waits, and returns for each address that
// somebody has the MACs that answered, sorted, without our own. The questions carry no sender: 0.0.0.0 (RFC 5227 section
// 2.1.1), or :: as in duplicate address detection (RFC 4862 section 5.4.2), so no cache learns from them. It always takes
// wait, also for no address.
//
// No answer proves nothing: the question may have been lost, so ask again. On a fabric that answers ARP itself an answer
// proves nothing either.
//
// Errors, next to the answers so far: ErrAddress, ErrNoDevice, ErrNoMAC, ErrFenced, ENETDOWN; ctx.Err() if ctx ends first.
func ProbeAll(ctx context.Context, index int, ips []netip.Addr, wait time.Duration) (map[netip.Addr][]net.HardwareAddr, error) {
	return ask(ctx, index, nil, ips, wait)
}

// AskAll is ProbeAll with one's own address as sender, as an ordinary neighbour asks, for gateways that answer nobody else.
// senders are addresses of the device, the first of an address's family asks; where there is none, it is asked as by
// ProbeAll. It returns as soon as each address has one answer.
func AskAll(ctx context.Context, index int, senders, ips []netip.Addr, wait time.Duration) (map[netip.Addr][]net.HardwareAddr, error) {
	if senders == nil {
		senders = []netip.Addr{}
	}
	return ask(ctx, index, senders, ips, wait)
}

// Probe is ProbeAll for one IPv4 address.
func Probe(ctx context.Context, index int, ip netip.Addr, timeout time.Duration) ([]net.HardwareAddr, error) {
	if !ip.Unmap().Is4() {
		return nil, fmt.Errorf("%w: %v cannot be probed by ARP", ErrAddress, ip)
	}
	answers, err := ProbeAll(ctx, index, []netip.Addr{ip}, timeout)
	return append([]net.HardwareAddr{}, answers[ip.Unmap()]...), err
}

// ask is AskAll, or ProbeAll if senders is nil.
func ask(ctx context.Context, index int, senders, ips []netip.Addr, wait time.Duration) (map[netip.Addr][]net.HardwareAddr, error) {
	answers := map[netip.Addr][]net.HardwareAddr{}
	dev, err := deviceOf(index)
	if err != nil {
		return answers, err
	}
	frames, asked, err := questions(dev.MAC, senders, ips)
	if err != nil {
		return answers, err
	}
	// All protocols: such a socket stands before the ingress hooks of traffic control, so the answer is heard also while the
	// fence keeps the address from the host. The filter still leaves only ARP and neighbor advertisements.
	conn, err := listenStations(index, dev.Name, unix.ETH_P_ALL)
	if err != nil {
		return answers, err
	}
	defer conn.Close()
	end := time.Now().Add(wait)
	failed := sendFrames(conn, index, frames)
	if err := conn.SetReadDeadline(end); err != nil {
		return answers, fmt.Errorf("netdev: probe on %s: %w", dev.Name, err)
	}
	defer interrupt(ctx, conn)() // after SetReadDeadline, which would undo it
	err = collectAnswers(ctx, conn, dev.MAC, asked, answers, senders != nil)
	for i, e := range failed {
		if e != nil { // one is enough: the others have the same reason, or are asked again with it
			err = errors.Join(err, fmt.Errorf("probe %v: %w", asked.list[i], e))
			break
		}
	}
	if err != nil {
		return answers, fmt.Errorf("netdev: on %s: %w", dev.Name, err)
	}
	return answers, nil
}

// question is what was asked for.
type question struct {
	list []netip.Addr // in the order of the frames
	set  map[netip.Addr]bool
}

// questions returns one frame for each address, each once.
func questions(mac net.HardwareAddr, senders, ips []netip.Addr) ([]frame, question, error) {
	asked := question{set: map[netip.Addr]bool{}}
	v4, v6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	for _, s := range slices.Backward(senders) {
		if s = s.Unmap(); s.Is4() {
			v4 = s
		} else {
			v6 = s.WithZone("")
		}
	}
	var frames []frame
	for _, ip := range ips {
		ip, err := hostIP(ip)
		if err != nil {
			return nil, asked, err
		}
		if asked.set[ip] {
			continue
		}
		asked.set[ip] = true
		asked.list = append(asked.list, ip)
		if ip.Is6() {
			f, err := neighborSolicitation(mac, v6, ip)
			if err != nil {
				return nil, asked, err
			}
			frames = append(frames, f)
			continue
		}
		p, err := arpQuestion(mac, v4, ip)
		if err != nil {
			return nil, asked, err
		}
		b, err := marshalARP(p, ethernet.Broadcast)
		if err != nil {
			return nil, asked, err
		}
		frames = append(frames, frame{ethernet.Broadcast, b})
	}
	return frames, asked, nil
}

// collectAnswers reads until the deadline of conn, or, if early, until each address has an answer.
func collectAnswers(ctx context.Context, conn *packet.Conn, own net.HardwareAddr, asked question, answers map[netip.Addr][]net.HardwareAddr, early bool) error {
	buf := make([]byte, stationFrame)
	for !early || len(answers) < len(asked.set) {
		n, _, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if timedOut(err) {
			return nil
		}
		if err != nil {
			return err
		}
		ip, mac, ok := parseStation(buf[:n])
		if !ok || !asked.set[ip] || bytes.Equal(mac, own) {
			continue
		}
		macs := answers[ip]
		at, known := slices.BinarySearchFunc(macs, mac, func(a, b net.HardwareAddr) int { return bytes.Compare(a, b) })
		if !known && len(macs) < maxAnswers {
			answers[ip] = slices.Insert(macs, at, mac)
		}
	}
	return nil
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

// OwnMAC reports whether a device of this network namespace has a MAC: a second interface in the same network
// answers, too.
func OwnMAC(mac net.HardwareAddr) bool {
	devices, err := net.Interfaces()
	return err == nil && slices.ContainsFunc(devices, func(d net.Interface) bool { return d.HardwareAddr.String() == mac.String() })
}
