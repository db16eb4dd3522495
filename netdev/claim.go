package netdev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// claimFrames is how many frames a listener reads in one second from one socket. What is more stays in the socket and is
// dropped there: a storm costs this much, and a claim that is repeated is heard in the next second.
const claimFrames = 1000

// Claim is a frame by which a foreign station says that an address is its own: ARP, or a neighbor advertisement.
type Claim struct {
	IP     netip.Addr
	MAC    net.HardwareAddr
	Device string // where it was heard
}

// ClaimListener hears ARP and neighbor advertisements on one device and reports claims to watched addresses by stations that
// are not ours. A claim is evidence for an event, never a reason to give up or take an address.
type ClaimListener struct {
	index   int
	watched func(netip.Addr) bool
	ours    func(net.HardwareAddr) bool
}

// NewClaimListener returns a listener for the device of that index. watched says which addresses matter, ours which MACs
// are the host's own. Run calls both for each ARP frame, so they must be a look into an index, not a search, and safe for
// concurrent use.
func NewClaimListener(index int, watched func(netip.Addr) bool, ours func(net.HardwareAddr) bool) *ClaimListener {
	return &ClaimListener{index, watched, ours}
}

// Run listens until ctx ends, and returns ctx.Err(), or until the device is gone (ErrNoDevice). A device that goes down and
// comes back does not end it. report is called for each claiming frame, one at a time, at most claimFrames times a second
// for each family; it must not block.
//
// The sockets are bound to ARP and to IPv6 and so stand behind the ingress hooks of traffic control: they hear what the host
// hears. A filter in the kernel lets only ARP and neighbor advertisements of others in.
func (l *ClaimListener) Run(ctx context.Context, report func(Claim)) error {
	dev, err := deviceOf(l.index)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	oneAtATime := func(c Claim) {
		mu.Lock()
		defer mu.Unlock()
		report(c)
	}
	v4, err := listenStations(l.index, dev.Name, unix.ETH_P_ARP)
	if err != nil {
		return err
	}
	defer v4.Close()
	v6, err := listenStations(l.index, dev.Name, unix.ETH_P_IPV6)
	if err != nil {
		return err
	}
	defer v6.Close()
	ctx, cancel := context.WithCancel(ctx)
	second := make(chan error, 1)
	// Whether the device is gone is asked by the first listener, on the caller's thread.
	go func() {
		defer cancel()
		second <- l.listen(ctx, v6, dev.Name, func() error { return nil }, oneAtATime)
	}()
	err = l.listen(ctx, v4, dev.Name, func() error {
		_, err := deviceOf(l.index)
		return err
	}, oneAtATime)
	cancel()
	if other := <-second; errors.Is(err, context.Canceled) && !errors.Is(other, context.Canceled) {
		return other
	}
	return err
}

// listen reads one socket. down is asked whether to go on when the device went down.
func (l *ClaimListener) listen(ctx context.Context, conn *packet.Conn, device string, down func() error, report func(Claim)) error {
	defer interrupt(ctx, conn)()
	buf := make([]byte, stationFrame)
	m := meter{limit: claimFrames}
	for ctx.Err() == nil {
		n, _, err := conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, unix.ENETDOWN):
			if err := down(); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("netdev: listen on %s: %w", device, err)
		default:
			if ip, mac, ok := parseStation(buf[:n]); ok && l.watched(ip) && !l.ours(mac) {
				report(Claim{ip, mac, device})
			}
			m.wait(ctx)
		}
	}
	return ctx.Err()
}

// meter holds its user up after limit events in one second, until that second is over.
type meter struct {
	limit, count int
	began        time.Time
}

func (m *meter) wait(ctx context.Context) {
	now := time.Now()
	if now.Sub(m.began) >= time.Second {
		m.began, m.count = now, 0
	}
	if m.count++; m.count < m.limit {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Second - now.Sub(m.began)):
	}
}

// listenStations opens a packet socket for stationFilter on one device.
func listenStations(index int, device string, protocol int) (*packet.Conn, error) {
	filter, err := stationFilter()
	if err != nil {
		return nil, err
	}
	// The filter is attached before the socket is bound, so no other frame ever gets in.
	conn, err := packet.Listen(&net.Interface{Index: index, Name: device}, packet.Raw, protocol, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("netdev: packet socket on %s: %w", device, err)
	}
	return conn, nil
}

// interrupt ends all waiting on conn when ctx ends. The returned function is that of onDone.
func interrupt(ctx context.Context, conn net.PacketConn) (release func()) {
	return onDone(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}
