package preflight

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/membership/identity"
	"havip-cluster/netdev"
)

const mtuUsual = 1500 // bytes, of Ethernet

// address looks for the address of the node on this host, and whether somebody else has it.
func address(ctx context.Context, o Options) []Finding {
	if !o.Advertise.IsValid() {
		return []Finding{ok("address", "none was named, so none was looked at; --advertise IP")}
	}
	enis, _, err := netdev.Inventory(nil, nil)
	if err != nil {
		return []Finding{fault("address", "", "the interfaces cannot be listed: %v", err)}
	}
	for _, e := range enis {
		for _, p := range e.Prefixes {
			if p.Addr() != o.Advertise {
				continue
			}
			return append([]Finding{device(e, p)}, answeredElsewhere(ctx, e, o.Advertise)...)
		}
	}
	if o.Advertise.IsLoopback() {
		return []Finding{warning("address", "another address, if other hosts are to join", "%s is of this host alone", o.Advertise)}
	}
	return []Finding{fault("address", "name an address that `ip address` lists", "%s is on no interface of this host that could own a HAVIP", o.Advertise)}
}

func device(e netdev.ENI, p netip.Prefix) Finding {
	switch {
	case !e.Up:
		return fault("address", "ip link set "+e.Device+" up", "%s is on %s, which is down", p, e.Device)
	case e.MTU < mtuUsual:
		return warning("address", "nothing, if the other hosts have the same", "%s is on %s, whose MTU is %d: it has to be so on every host", p, e.Device, e.MTU)
	}
	return ok("address", "%s is on %s, MTU %d", p, e.Device, e.MTU)
}

// duplicateWait is how long another host has to answer.
const duplicateWait = 300 * time.Millisecond

func answeredElsewhere(ctx context.Context, e netdev.ENI, ip netip.Addr) []Finding {
	answers, err := netdev.Probe(ctx, e.Index, ip, duplicateWait)
	if err != nil {
		return []Finding{warning("address", "", "whether another host has %s cannot be asked: %v", ip, err)}
	}
	for _, mac := range answers {
		if !netdev.OwnMAC(mac) {
			return []Finding{fault("address", "give one of the two hosts another address", "another host (MAC %s) answers for %s", mac, ip)}
		}
	}
	return nil
}

// ports tries to listen where the node will.
func ports(_ context.Context, o Options) []Finding {
	if !o.Advertise.IsValid() {
		return nil
	}
	if unlock, err := identity.Lock(o.Dir); errors.Is(err, identity.ErrLocked) {
		return []Finding{ok("port", "a node of %s runs here and has them", o.Dir)}
	} else if err == nil {
		defer unlock()
	}
	var out []Finding
	for _, p := range portsOf(o.Ports) {
		if err := tryListen(p.network, netip.AddrPortFrom(o.Advertise, uint16(p.port))); err != nil {
			do := fmt.Sprintf("`ss -lpn sport = :%d` tells who has it; or take another with --%s", p.port, p.flag)
			out = append(out, fault("port", do, "%d/%s for %s: %v", p.port, p.network, p.what, err))
		}
	}
	if len(out) == 0 {
		out = append(out, ok("port", "all are free: %s", portList(o.Ports)))
	}
	return out
}

type nodePort struct {
	network, flag, what string
	port                int
}

func portsOf(p identity.Ports) []nodePort {
	return []nodePort{
		{"tcp", "api-port", "the API", p.API}, {"tcp", "raft-port", "Raft", p.Raft},
		{"tcp", "gossip-port", "gossip", p.Gossip}, {"udp", "gossip-port", "gossip", p.Gossip},
		{"udp", "lease-port", "the words of the lease", p.Lease},
	}
}

func portList(p identity.Ports) (text string) {
	for i, n := range portsOf(p) {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%d/%s", n.port, n.network)
	}
	return text
}

func tryListen(network string, at netip.AddrPort) error {
	if network == "udp" {
		c, err := net.ListenPacket(network, at.String())
		if err == nil {
			err = c.Close()
		}
		return err
	}
	l, err := net.Listen(network, at.String())
	if err == nil {
		err = l.Close()
	}
	return err
}

const (
	listenFor    = 3 * time.Second // for other speakers: VRRP's default interval is 1 s (RFC 9568, 5.2.7)
	protocolVRRP = 112             // RFC 9568, 5.1.4
	speakersMax  = 64
)

// speakers listens for VRRP on every interface that could own a HAVIP: Keepalived, routers.
func speakers(ctx context.Context, _ Options) []Finding {
	enis, _, err := netdev.Inventory(nil, nil)
	if err != nil {
		return []Finding{fault("speaker", "", "the interfaces cannot be listed: %v", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, listenFor)
	defer cancel()
	var mu sync.Mutex
	var heard []string
	var work sync.WaitGroup
	for _, e := range enis {
		work.Go(func() {
			found, err := hearVRRP(ctx, e)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				found = append(found, fmt.Sprintf("%s cannot be listened to: %v", e.Device, err))
			}
			heard = append(heard, found...)
		})
	}
	work.Wait()
	if len(heard) == 0 {
		return []Finding{ok("speaker", "no VRRP was heard within %s", listenFor)}
	}
	var out []Finding
	for _, text := range sorted(heard) {
		out = append(out, warning("speaker", "let it keep other addresses than the HAVIPs; `havip-cluster import keepalived` takes its configuration over", "%s", text))
	}
	return out
}

// hearVRRP returns who sent VRRP on a device until ctx ends.
func hearVRRP(ctx context.Context, e netdev.ENI) (found []string, err error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(bigEndian(unix.ETH_P_IP)))
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_IP), Ifindex: e.Index}); err != nil {
		return nil, err
	}
	// VRRP's group, which the device would not hear otherwise.
	_ = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{
		Ifindex: int32(e.Index), Type: unix.PACKET_MR_ALLMULTI,
	})
	buf := make([]byte, 2048)
	for len(found) < speakersMax {
		left := time.Until(deadline(ctx))
		if left <= 0 || ctx.Err() != nil {
			return found, nil
		}
		tv := unix.NsecToTimeval(min(left, 100*time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return found, err
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return found, err
		}
		if text := vrrpSpeaker(buf[:n]); text != "" {
			found = append(found, text+" on "+e.Device)
		}
	}
	return found, nil
}

func deadline(ctx context.Context) time.Time {
	end, _ := ctx.Deadline()
	return end
}

func bigEndian(v uint16) uint16 { return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)}) }

// vrrpSpeaker reads an IPv4 packet; "" if it is no VRRP.
func vrrpSpeaker(packet []byte) string {
	if len(packet) < 20 || packet[0]>>4 != 4 || packet[9] != protocolVRRP {
		return ""
	}
	head := int(packet[0]&0x0f) * 4
	source := netip.AddrFrom4([4]byte(packet[12:16]))
	if head < 20 || len(packet) < head+2 {
		return fmt.Sprintf("%s speaks VRRP", source)
	}
	return fmt.Sprintf("%s speaks VRRP %d, router id %d", source, packet[head]>>4, packet[head+1])
}

const (
	peerWait  = 2 * time.Second
	clockSlip = 5 * time.Second // two clocks may differ by, before a person hears of it
)

// peer tries the TCP ports of another node. Its UDP ports answer nobody who has no key.
func peer(ctx context.Context, o Options) []Finding {
	if o.Peer == "" {
		return nil
	}
	var out []Finding
	for _, p := range portsOf(o.Ports) {
		if p.network != "tcp" {
			continue
		}
		d := net.Dialer{Timeout: peerWait}
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(o.Peer, strconv.Itoa(p.port)))
		switch {
		case errors.Is(err, unix.ECONNREFUSED):
			out = append(out, warning("peer", "start its agent; then look again", "%s refuses %d/tcp (%s): nothing listens there", o.Peer, p.port, p.what))
		case err != nil:
			out = append(out, fault("peer", fmt.Sprintf("open %d/tcp between the two hosts", p.port), "%s at %d/tcp (%s): %v", o.Peer, p.port, p.what, err))
		default:
			_ = conn.Close()
			out = append(out, ok("peer", "%s answers at %d/tcp (%s)", o.Peer, p.port, p.what))
		}
	}
	out = append(out, peerClock(ctx, o)...)
	return append(out, ok("peer", "%d/udp and %d/udp cannot be tried without a key: `status` says later whether they pass", o.Ports.Gossip, o.Ports.Lease))
}

// peerClock compares this host's clock with the date in an answer of the peer, in whole seconds. Nobody has proved
// yet who the peer is, so this is a hint for a person.
func peerClock(ctx context.Context, o Options) []Finding {
	client := http.Client{Timeout: peerWait, Transport: &http.Transport{
		DisableKeepAlives: true, Proxy: nil,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}, //nolint:gosec // see above
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+net.JoinHostPort(o.Peer, strconv.Itoa(o.Ports.API))+"/healthz", nil)
	if err != nil {
		return nil
	}
	answer, err := client.Do(req)
	if err != nil {
		return nil // its port was told of above
	}
	_ = answer.Body.Close()
	there, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return nil
	}
	if slip := time.Since(there); slip.Abs() > clockSlip {
		return []Finding{warning("peer", "run chrony or systemd-timesyncd on both", "the clock of %s says %s, this one %s: certificates and the times in events need clocks that agree",
			o.Peer, there.UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339))}
	}
	return []Finding{ok("peer", "the clocks agree within %s", clockSlip)}
}
