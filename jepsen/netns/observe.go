package netns

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"havip-cluster/jepsen/checker"
	"havip-cluster/jepsen/history"
	"havip-cluster/testbed"
)

// The last byte of the addresses of observers, to which their number is added, and the one in whose name they ask.
const (
	offsetObserver = 240
	offsetAsker    = 250 // no host: see Observer
)

const (
	observersMax   = 9
	observerPrefix = "observer"
	observerPort   = 7008    // where answers to an observer's datagrams go
	pollsOpenMax   = 1 << 12 // polls whose answers still count; 8 s at the default interval
	receiveBytes   = 4 << 20 // socket buffer, for the pauses of a busy machine
)

// Observer asks every node directly for each watched HAVIP, at every tick by ARP and by UDP. The
// frames go to the MAC address of one ENI each, so that no other node can answer, whatever any ARP
// cache believes. Answers are attributed by the MAC address they come from.
//
// An ARP reply carries no number of its request except the hardware address it is for. So each
// poll asks with a hardware address of its own, and in the name of one address that belongs to no
// host: the nodes' cache entry for it changes with every poll, and nothing ever uses it. (An ARP
// probe, whose sender address is 0, would leave no entry, but means a conflict to its receiver.)
type Observer struct {
	ticker *testbed.Ticker
	lab    *Lab
	host   *Host
	havips []netip.Addr
	port   uint16
	asked  []asked
	arp    *packet.Conn
	udp    *packet.Conn
	sink   *net.UDPConn // holds observerPort, lest the kernel answers the answers by ICMP
	end    func()       // stops the sender, then the receivers; runs once

	mu      sync.Mutex
	polls   uint64           // made
	number  uint64           // of the latest poll: skipped ticks count, so numbers tell times
	open    []poll           // ring, by poll number modulo pollsOpenMax
	kept    []history.Answer // by Thin
	answers []history.Answer // since then
	strange int
}

// asked is an ENI.
type asked struct {
	node string
	mac  net.HardwareAddr
}

// poll is one round of questions. sent has one time per question, 0 if it was answered or never left.
type poll struct {
	number uint64
	sent   []int64
}

// Observe attaches an observer to the switch and starts it: it asks for the havips every every (0: 2 ms),
// by UDP on port, until ctx ends or Stop is called. havips are IPv4 addresses. It is exempt from partitions
// and loss.
func (l *Lab) Observe(ctx context.Context, havips []netip.Addr, port int, every time.Duration) (*Observer, error) {
	if every <= 0 {
		every = 2 * time.Millisecond
	}
	for _, havip := range havips {
		if !havip.Is4() {
			return nil, fmt.Errorf("netns: observer: %v is not an IPv4 address", havip)
		}
	}
	host, err := l.attachObserver()
	if err != nil {
		return nil, err
	}
	o := &Observer{
		lab: l, host: host, havips: slices.Clone(havips), port: uint16(port),
		open: make([]poll, pollsOpenMax),
	}
	for _, node := range l.Nodes() {
		for eni := range node.ENIs() {
			o.asked = append(o.asked, asked{node.Name, node.MAC(eni)})
		}
	}
	if err := host.Do(o.listen); err != nil {
		o.close()
		return nil, fmt.Errorf("netns: %s: %w", host.Name, err)
	}
	if o.ticker, err = testbed.NewTicker(every); err != nil {
		o.close()
		return nil, err
	}
	var sender, receivers sync.WaitGroup
	sender.Go(func() { o.ticker.Run(o.ask) })
	receivers.Go(func() { receive(o.arp, l, o.gotARP) })
	receivers.Go(func() { receive(o.udp, l, o.gotUDP) })
	o.end = sync.OnceFunc(func() {
		o.ticker.Stop()
		sender.Wait()
		time.Sleep(testbed.GraceWait)
		o.close()
		receivers.Wait()
		l.mu.Lock()
		l.idle = append(l.idle, o.host)
		l.mu.Unlock()
	})
	context.AfterFunc(ctx, o.end)
	return o, nil
}

// attachObserver takes the host of an observer that has stopped, or makes one.
func (l *Lab) attachObserver() (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.idle); n > 0 {
		host := l.idle[n-1]
		l.idle = l.idle[:n-1]
		return host, nil
	}
	if l.observers == observersMax {
		return nil, fmt.Errorf("netns: no room for more than %d observers", observersMax)
	}
	number := l.observers + 1
	host, err := l.Attach(fmt.Sprintf("%s-%d", observerPrefix, number), 2, number, offsetObserver+byte(number))
	if err == nil {
		l.observers = number
	}
	return host, err
}

// listen runs in the observer's namespace.
func (o *Observer) listen() (err error) {
	link, err := net.InterfaceByName(o.host.Device(0))
	if err != nil {
		return err
	}
	if o.sink, err = net.ListenUDP("udp4", &net.UDPAddr{Port: observerPort}); err != nil {
		return err
	}
	if o.arp, err = listenPacket(link, etherARP); err != nil {
		return err
	}
	o.udp, err = listenPacket(link, etherIPv4)
	return err
}

func listenPacket(link *net.Interface, protocol int) (*packet.Conn, error) {
	conn, err := packet.Listen(link, packet.Raw, protocol, nil)
	if err != nil {
		return nil, err
	}
	if err := conn.SetPromiscuous(true); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if raw, err := conn.SyscallConn(); err == nil {
		// Forcing needs to be root of the machine; without, the buffer stays at its default.
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBytes) })
	}
	return conn, nil
}

func (o *Observer) close() {
	for _, conn := range []*packet.Conn{o.arp, o.udp} {
		if conn != nil {
			_ = conn.Close()
		}
	}
	if o.sink != nil {
		_ = o.sink.Close()
	}
}

// Stop ends observing, waits for late answers and returns when all goroutines have ended.
func (o *Observer) Stop() { o.end() }

// ask sends the poll of one tick. The time of sending is taken before the frame leaves.
func (o *Observer) ask(due uint64) {
	o.mu.Lock()
	o.polls++
	o.number += due
	number := o.number
	sent := make([]int64, 2*len(o.havips)*len(o.asked))
	o.open[number%pollsOpenMax] = poll{number, sent}
	o.mu.Unlock()
	mac, question := o.host.MAC(0), 0
	send := func(conn *packet.Conn, to net.HardwareAddr, frame []byte) {
		o.mu.Lock()
		sent[question] = o.lab.Now()
		o.mu.Unlock()
		if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: to}); err != nil {
			o.mu.Lock()
			sent[question] = 0
			o.mu.Unlock()
		}
		question++
	}
	buffer := make([]byte, 0, 128)
	for _, havip := range o.havips {
		for _, eni := range o.asked {
			token := o.token(number)
			send(o.arp, eni.mac, arpFrame{
				to: eni.mac, from: token, op: opRequest,
				senderMAC: token, senderIP: o.lab.Address(offsetAsker), targetMAC: make(net.HardwareAddr, 6), targetIP: havip,
			}.append(buffer))
			send(o.udp, eni.mac, udpFrame{
				to: eni.mac, from: mac, src: netip.AddrPortFrom(o.host.IP(0), observerPort), dst: netip.AddrPortFrom(havip, o.port),
				payload: testbed.AppendQuestion(nil, number<<16|uint64(question)),
			}.append(buffer))
		}
	}
}

// token is the hardware address from which a poll asks by ARP:
// locally administered, then the observer's own last two bytes and the poll modulo pollsOpenMax.
func (o *Observer) token(number uint64) net.HardwareAddr {
	own := o.host.MAC(0)
	return binary.BigEndian.AppendUint16(net.HardwareAddr{0x06, own[2], own[3], own[4]}, uint16(number%pollsOpenMax))
}

// receive hands frames to got, with the time after receipt, until the socket is closed.
func receive(conn *packet.Conn, l *Lab, got func(frame []byte, now int64)) {
	buffer := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		got(buffer[:n], l.Now())
	}
}

func (o *Observer) gotARP(frame []byte, now int64) {
	f, ok := parseARP(frame)
	if !ok || f.op != opReply || !slices.Equal(f.to[:4], o.token(0)[:4]) {
		return
	}
	havip := slices.Index(o.havips, f.senderIP)
	eni := slices.IndexFunc(o.asked, func(a asked) bool { return slices.Equal(a.mac, f.senderMAC) })
	o.mu.Lock()
	defer o.mu.Unlock()
	if havip < 0 || eni < 0 || !slices.Equal(f.from, f.senderMAC) {
		o.strange++
		return
	}
	number := o.open[binary.BigEndian.Uint16(f.to[4:])%pollsOpenMax].number
	o.answered(number, 2*(havip*len(o.asked)+eni), now)
}

func (o *Observer) gotUDP(frame []byte, now int64) {
	f, ok := parseUDP(frame)
	if !ok || f.dst != netip.AddrPortFrom(o.host.IP(0), observerPort) {
		return
	}
	id, name, ok := testbed.ParseQuestion(f.payload)
	eni := slices.IndexFunc(o.asked, func(a asked) bool { return slices.Equal(a.mac, f.from) })
	o.mu.Lock()
	defer o.mu.Unlock()
	question := int(id & 0xffff)
	pair := question / 2
	if !ok || eni < 0 || question%2 != 1 || pair >= len(o.havips)*len(o.asked) {
		o.strange++
		return
	}
	node := o.asked[pair%len(o.asked)].node // of the ENI that was asked; another one of it may answer
	if o.asked[eni].node != node || name != node || f.src.Addr() != o.havips[pair/len(o.asked)] {
		o.strange++
		return
	}
	o.answered(id>>16, question, now)
}

// answered records the first answer to a question. Called with mu held.
func (o *Observer) answered(number uint64, question int, now int64) {
	p := o.open[number%pollsOpenMax]
	if number == 0 || p.number != number || p.sent[question] == 0 {
		return
	}
	channel := history.ARP
	if question%2 == 1 {
		channel = history.UDP
	}
	pair := question / 2
	o.answers = append(o.answers, history.Answer{
		From: o.host.Name, HAVIP: o.havips[pair/len(o.asked)].String(), Poll: number,
		Node: o.asked[pair%len(o.asked)].node, Channel: channel, Sent: p.sent[question], Received: now,
	})
	p.sent[question] = 0
}

// History returns the answers so far and the series they belong to, one for each HAVIP.
func (o *Observer) History() ([]history.Series, []history.Answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var series []history.Series
	for _, havip := range o.havips {
		series = append(series, history.Series{
			Kind: history.Observing, From: o.host.Name, Target: havip.String(), Every: int64(o.ticker.Every()), Count: o.polls,
		})
	}
	return series, slices.Concat(o.kept, o.answers)
}

// ObserverReport is what an observer found out.
type ObserverReport struct {
	checker.Dual              // by ARP and UDP together
	ARP, UDP     checker.Dual // by one of them alone
	Polls        uint64       // made
	Answers      int          // received
	Strange      int          // answers that no question explains; must be 0
	Skipped      uint64       // ticks without a poll, for want of CPU
}

// Report computes what was found out so far; see checker.Dual for what certain means.
func (o *Observer) Report() ObserverReport {
	_, answers := o.History()
	by := func(channel string) checker.Dual {
		return checker.DualOwner(slices.DeleteFunc(slices.Clone(answers), func(a history.Answer) bool { return a.Channel != channel }))
	}
	r := ObserverReport{Dual: checker.DualOwner(answers), ARP: by(history.ARP), UDP: by(history.UDP), Answers: len(answers)}
	r.Skipped = o.ticker.Skipped()
	o.mu.Lock()
	defer o.mu.Unlock()
	r.Polls, r.Strange = o.polls, o.strange
	return r
}

// DualOwner is the dual-owner time so far.
func (o *Observer) DualOwner() checker.Dual {
	_, answers := o.History()
	return checker.DualOwner(answers)
}
