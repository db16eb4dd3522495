package netdev

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
)

// Announcer tells the neighbours of one ENI that HAVIPs are at its MAC. It may be used by several goroutines. Its frames
// pass the egress hooks of traffic control, so the fence has the last word on them.
type Announcer struct {
	index int
	links *netlink.Handle
	conn  *packet.Conn
}

// NewAnnouncer opens the sockets for the device: ErrNoDevice if it is not there, ErrNoMAC if it is not Ethernet.
func NewAnnouncer(index int) (*Announcer, error) {
	links, err := openHandle()
	if err != nil {
		return nil, err
	}
	dev, err := readDevice(links, index)
	if err != nil {
		links.Close()
		return nil, err
	}
	// Protocol 0: the socket sends any EtherType and receives nothing, so nothing piles up unread.
	conn, err := packet.Listen(&net.Interface{Index: index, Name: dev.Name, HardwareAddr: dev.MAC}, packet.Raw, 0, nil)
	if err != nil {
		links.Close()
		return nil, fmt.Errorf("netdev: packet socket on %s: %w", dev.Name, err)
	}
	return &Announcer{index, links, conn}, nil
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

// AnnounceAll sends, with the present MAC, for each IPv4 address a gratuitous ARP request and reply, for each IPv6 address
// an unsolicited neighbor advertisement, in the order of ips. It returns an error for each; nil means that the kernel took
// all its frames. It neither repeats nor limits the rate; RFC 4861 section 7.2.6 allows three, at least 1 s apart. It takes
// a few microseconds for each address, and at most 100 ms and 50 µs for each frame when the device's queue is full.
//
// Errors: ErrAddress, ErrNoDevice, ErrNoMAC, ErrFenced; ENETDOWN if the device is down.
func (a *Announcer) AnnounceAll(ips []netip.Addr) []error {
	_, errs := a.announce(ips)
	return errs
}

// Announce is AnnounceAll for one address. It returns the frames that were sent, those before an error too.
func (a *Announcer) Announce(ip netip.Addr) (Frames, error) {
	sent, errs := a.announce([]netip.Addr{ip})
	return sent, errs[0]
}

func (a *Announcer) announce(ips []netip.Addr) (sent Frames, errs []error) {
	errs = make([]error, len(ips))
	dev, err := readDevice(a.links, a.index)
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return nil, errs
	}
	b := announcements{dev: dev}
	var frames []frame
	var whose []int // index into ips
	for i, ip := range ips {
		made, err := b.of(ip)
		errs[i] = err
		for _, f := range made {
			frames, whose = append(frames, f), append(whose, i)
		}
	}
	for i, err := range sendFrames(a.conn, a.index, frames) {
		switch at := whose[i]; {
		case err == nil:
			sent = append(sent, frames[i].bytes)
		case errs[at] == nil:
			errs[at] = fmt.Errorf("netdev: announce %v on %s: %w", ips[at], dev.Name, err)
		}
	}
	return sent, errs
}

// announcements builds the frames of one device.
type announcements struct {
	dev    device
	asked  bool // whether it forwards IPv6
	router bool
	err    error // of the asking
}

func (a *announcements) of(ip netip.Addr) ([]frame, error) {
	ip, err := hostIP(ip)
	if err != nil {
		return nil, err
	}
	if ip.Is6() {
		if !a.asked {
			var forwarding int
			forwarding, a.err = readSysctl(sysctlPath("ipv6", a.dev.Name, "forwarding"))
			a.asked, a.router = true, forwarding != 0
		}
		if a.err != nil {
			return nil, a.err
		}
		b, err := neighborAdvertisement(a.dev.MAC, ip, a.router)
		if err != nil {
			return nil, err
		}
		return []frame{{allNodesMAC, b}}, nil
	}
	packets, err := arpAnnouncements(a.dev.MAC, ip)
	if err != nil {
		return nil, err
	}
	var frames []frame
	for _, p := range packets {
		b, err := marshalARP(p, ethernet.Broadcast)
		if err != nil {
			return nil, err
		}
		frames = append(frames, frame{ethernet.Broadcast, b})
	}
	return frames, nil
}
