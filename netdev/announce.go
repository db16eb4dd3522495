package netdev

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
)

// sendTimeout bounds the sending of one frame, that is the wait for room in the device's queue.
const sendTimeout = 100 * time.Millisecond

// Announcer tells the neighbours of one ENI that a HAVIP is at its MAC. It may be used by several goroutines. Its frames
// pass the egress hooks of traffic control, so the fence has the last word on them.
type Announcer struct {
	index int
	links *netlink.Handle
	conn  *packet.Conn
	arp   arpSender
}

// arpSender is what Announcer needs of arp.Client.
type arpSender interface {
	WriteTo(p *arp.Packet, destination net.HardwareAddr) error
}

// NewAnnouncer opens the sockets for the device: ErrNoDevice if it is not there, ErrNoMAC if it is not Ethernet.
func NewAnnouncer(index int) (*Announcer, error) {
	links, err := openHandle()
	if err != nil {
		return nil, err
	}
	a := &Announcer{index: index, links: links}
	dev, err := readDevice(links, index)
	if err != nil {
		links.Close()
		return nil, err
	}
	ifi := &net.Interface{Index: index, Name: dev.Name, HardwareAddr: dev.MAC}
	// Protocol 0: the socket sends any EtherType and receives nothing, so nothing piles up unread.
	if a.conn, err = packet.Listen(ifi, packet.Raw, 0, nil); err != nil {
		links.Close()
		return nil, fmt.Errorf("netdev: packet socket on %s: %w", dev.Name, err)
	}
	// The client refuses a NIC without an IPv4 address, although only its Request needs one; then the same frames go out
	// without it. arp.Dial would leak its socket in that case.
	if client, err := arp.New(ifi, a.conn); err == nil {
		a.arp = client
	} else {
		a.arp = bareSender{a.conn}
	}
	return a, nil
}

// Close closes the sockets.
func (a *Announcer) Close() error {
	a.links.Close()
	return a.conn.Close()
}

// MAC reads the device's present hardware address from the kernel: ErrNoDevice, ErrNoMAC.
func (a *Announcer) MAC() (net.HardwareAddr, error) {
	dev, err := readDevice(a.links, a.index)
	return dev.MAC, err
}

// Announce sends, with the present MAC, for IPv4 a gratuitous ARP request and reply, for IPv6 an unsolicited neighbor
// advertisement. It returns the frames that were sent, those before an error too. It neither repeats nor limits the rate;
// RFC 4861 section 7.2.6 allows three, at least 1 s apart.
//
// Errors: ErrAddress, ErrNoDevice, ErrNoMAC; ENETDOWN if the device is down.
func (a *Announcer) Announce(ip netip.Addr) (Frames, error) {
	ip, err := hostIP(ip)
	if err != nil {
		return nil, err
	}
	dev, err := readDevice(a.links, a.index)
	if err != nil {
		return nil, err
	}
	if ip.Is4() {
		return a.announceARP(dev, ip)
	}
	forwarding, err := readSysctl(sysctlPath("ipv6", dev.Name, "forwarding"))
	if err != nil {
		return nil, err
	}
	frame, err := neighborAdvertisement(dev.MAC, ip, forwarding != 0)
	if err != nil {
		return nil, err
	}
	if err := a.send(func() error {
		_, err := a.conn.WriteTo(frame, &packet.Addr{HardwareAddr: allNodesMAC})
		return err
	}); err != nil {
		return nil, fmt.Errorf("netdev: announce %v on %s: %w", ip, dev.Name, err)
	}
	return Frames{frame}, nil
}

func (a *Announcer) announceARP(dev device, ip netip.Addr) (Frames, error) {
	packets, err := arpAnnouncements(dev.MAC, ip)
	if err != nil {
		return nil, err
	}
	var sent Frames
	for _, p := range packets {
		frame, err := marshalARP(p, ethernet.Broadcast)
		if err != nil {
			return sent, err
		}
		if err := a.send(func() error { return a.arp.WriteTo(p, ethernet.Broadcast) }); err != nil {
			return sent, fmt.Errorf("netdev: announce %v on %s: %w", ip, dev.Name, err)
		}
		sent = append(sent, frame)
	}
	return sent, nil
}

// send runs write with a deadline of its own. Deadlines are absolute and stay, so each send needs a new one.
func (a *Announcer) send(write func() error) error {
	if err := a.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	err := write()
	if timedOut(err) {
		return errors.Join(fmt.Errorf("no room in the device's queue for %v", sendTimeout), err)
	}
	return err
}

// bareSender sends what arp.Client would send.
type bareSender struct{ conn net.PacketConn }

func (s bareSender) WriteTo(p *arp.Packet, destination net.HardwareAddr) error {
	frame, err := marshalARP(p, destination)
	if err != nil {
		return err
	}
	_, err = s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: destination})
	return err
}
