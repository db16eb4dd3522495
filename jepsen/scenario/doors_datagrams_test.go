package scenario

import (
	"bytes"
	"context"
	bits "encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
	"havip-cluster/jepsen/forge"
	"havip-cluster/jepsen/netns"
	"havip-cluster/membership"
	"havip-cluster/membership/datagram"
	"havip-cluster/membership/identity"
)

const (
	gossipPort = 7402
	leasePort  = 7403
)

// state is what the cluster has agreed, as a member can save it.
func (b *Bed) state(at int) *fsm.State {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "state")
	b.CLI(at, "snapshot", "save", file)
	raw, err := os.ReadFile(file)
	b.must(err)
	s, err := fsm.ReadSnapshot(bytes.NewReader(raw))
	b.must(err)
	return s
}

// intruder speaks in a cluster with what a node has on its disk: its own certificate's key, and
// the key of gossip.
type intruder struct {
	b      *Bed
	node   string
	state  *fsm.State
	words  *datagram.Socket
	gossip *membership.Gossip
	said   int
}

// intrude starts an intruder at a host whose agent does not run, with its data directory.
func (b *Bed) intrude(at int, s *fsm.State) *intruder {
	b.t.Helper()
	id, err := identity.Load(b.Cluster.DataDir(at))
	b.must(err)
	i := &intruder{b: b, node: id.NodeID, state: s}
	log := slog.New(slog.DiscardHandler)
	b.must(b.Lab.Node(at).Do(func() (err error) {
		ip := b.Lab.Node(at).IP(0)
		i.words, err = datagram.Open(datagram.Config{
			Cluster: id.ClusterID, Node: id.NodeID, Listen: netip.AddrPortFrom(ip, leasePort), State: func() *fsm.State { return s },
			Keys: id.DatagramKeys, Receive: func(string, []byte) {}, Logger: log,
		})
		if err != nil {
			return err
		}
		i.gossip, err = membership.OpenGossip(membership.GossipConfig{
			Cluster: id.ClusterID, Node: id.NodeID, Listen: netip.AddrPortFrom(ip, gossipPort), Keys: id.GossipKeys(), Version: "intruder", Logger: log,
			Receive: func([]byte) {}, Changed: func() {},
		})
		return err
	}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = i.words.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		<-done
		_ = i.words.Close()
		_ = i.gossip.Close()
	})
	return i
}

// forge says, until the returned function is called, what made two owners and dark addresses
// before: in the names of all others, sealed with the own key and by gossip.
func (i *intruder) forge() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := uint64(1); ctx.Err() == nil; n++ {
			i.once(n)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return sync.OnceFunc(func() { cancel(); <-done })
}

// once says everything once. The epochs to come are guessed: they count up.
func (i *intruder) once(n uint64) {
	for _, to := range i.state.NodeList() {
		if to.ID == i.node {
			continue
		}
		for _, v := range i.state.HAVIPList() {
			for _, sess := range i.state.SessionList() {
				epoch := uint64(v.Epoch) + n%8
				failure := []string{"", "forged"}[n%2]
				i.say(to, func(version byte) []byte {
					return forge.Released(version, sess.Node, v.ID, epoch, sess.Number, failure)
				})
				i.say(to, func(version byte) []byte { return forge.Ready(version, sess.Node, v.ID, epoch, sess.Number) })
			}
		}
		for _, sess := range i.state.SessionList() {
			about := forge.Session{Node: sess.Node, Number: sess.Number}
			for _, voter := range i.state.NodeList() {
				if voter.ID == i.node || voter.Role == fsm.RoleAgent {
					continue
				}
				i.say(to, func(version byte) []byte { return forge.Hint(version, voter.ID, about) })
				i.say(to, func(version byte) []byte {
					return forge.Endorsement(version, voter.ID, to.ID, 1+n%8, n/8, about, i.voters())
				})
			}
		}
	}
}

func (i *intruder) say(to fsm.Node, word func(version byte) []byte) {
	_ = i.words.Send(to, word(forge.Sealed))
	_ = i.gossip.Send(to, word(forge.ByGossip))
	i.said++
}

// voters is the id of the set of the three voters, as every member can compute it.
func (i *intruder) voters() uint64 {
	var ids []string
	for _, n := range i.state.NodeList() {
		if n.Role != fsm.RoleAgent {
			ids = append(ids, n.ID)
		}
	}
	return uint64(lease.NewVoterSet(ids).ID)
}

// metric adds up a metric of a node over its labels.
func (b *Bed) metric(node int, name string) (sum float64) {
	b.t.Helper()
	socket := identity.SocketPath(b.Cluster.DataDir(node))
	c := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	res, err := c.Get("http://local/metrics")
	b.must(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	b.must(err)
	for line := range strings.SplitSeq(string(text), "\n") {
		rest, found := strings.CutPrefix(line, name)
		if !found || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		n, err := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64)
		b.must(err)
		sum += n
	}
	return sum
}

// unmoved demands that forged words change nothing: no session ends, the HAVIP stays, and moves
// meanwhile have one owner at every instant.
func (b *Bed) unmoved(i *intruder) {
	b.t.Helper()
	before, owner := b.sessions(), b.Owner()
	m := b.Watch(func() {
		stop := i.forge()
		defer stop()
		time.Sleep(4 * Lease)
		if now := b.Owner(); now != owner {
			b.t.Errorf("forged words moved the HAVIP from node-%d to node-%d", owner, now)
		}
		for range 3 {
			b.Place(owner%3 + 1)
			owner = b.Owner()
		}
	})
	noDual(b.t, m)
	for name, session := range b.sessions() {
		if before[name] != session && before[name] != 0 && session != 0 {
			b.t.Errorf("%s had session %d, and has %d: forged words ended it", name, before[name], session)
		}
	}
	refused := 0.0
	for node := 1; node <= 3; node++ {
		refused += b.metric(node, "havip_words_refused_total") + b.metric(node, "havip_datagrams_dropped_total")
	}
	b.t.Logf("%d words were forged, %.0f were counted as refused; gap of three moves %s", i.said, refused, m.Gap)
	if i.said < 100 || refused < 100 {
		b.t.Errorf("%d words were forged, %.0f refused: that tried nothing", i.said, refused)
	}
}

// A removed agent-role node with its old certificate and the key of gossip says what made two
// owners for a second, ended a living session and moved a healthy owner.
func TestWordsOfARemovedNode(t *testing.T) {
	beside(t)
	b := newBed(t, 4, 3)
	b.must(b.Cluster.Join(4, "agent"))
	b.WaitSessions(4)
	s := b.state(1)
	b.CLI(1, "node", "remove", "node-4")
	b.must(b.Cluster.AwaitEnd(4))
	b.unmoved(b.intrude(4, s))
}

// The same by a present member: what it says in its own name is its right, and nothing else.
func TestWordsOfAnotherMember(t *testing.T) {
	beside(t)
	b := newBed(t, 4, 3)
	b.must(b.Cluster.Join(4, "agent"))
	b.WaitSessions(4)
	b.must(b.Cluster.Stop(4))
	s := b.state(1)
	i := b.intrude(4, s)
	b.Eventually("its own words are sealed and taken", func() bool {
		return i.words.Send(s.Nodes[b.nodeID(s, 1)], forge.Status(forge.Sealed, i.node, 1)) == nil
	})
	b.unmoved(i)
}

func (b *Bed) nodeID(s *fsm.State, node int) string {
	n, ok := s.NodeNamed(b.Cluster.NodeName(node))
	if !ok {
		b.t.Fatalf("the state has no %s", b.Cluster.NodeName(node))
	}
	return n.ID
}

// eavesdrop collects the IPv4 packets with words of a node that come to a host, for a while.
func (b *Bed) eavesdrop(at *netns.Host, from netip.Addr, d time.Duration) (seen [][]byte) {
	b.t.Helper()
	b.must(at.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_IP)))
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}); err != nil {
			return err
		}
		buf := make([]byte, 65536)
		// A busy host may have read little of what has come by then.
		for end := time.Now().Add(d); time.Now().Before(end) || len(seen) < 20 && time.Now().Before(end.Add(ownedWait)); {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil || n < 28 || buf[9] != unix.IPPROTO_UDP || netip.AddrFrom4([4]byte(buf[12:16])) != from {
				continue
			}
			if port := bits.BigEndian.Uint16(buf[22:]); port == leasePort || port == gossipPort {
				seen = append(seen, bytes.Clone(buf[:n]))
			}
		}
		return nil
	}))
	return seen
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// repeat sends packets again from a host, as they were, some of them at a time, until the returned
// function is called.
func (b *Bed) repeat(from *netns.Host, every time.Duration, burst int, packets [][]byte) (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- from.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			for i := 0; ctx.Err() == nil; i++ {
				p := packets[i%len(packets)]
				err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: [4]byte(p[16:20])})
				if err != nil && !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ENOBUFS) { // it may be cut off just then
					return fmt.Errorf("send: %w", err)
				}
				if i%burst == 0 {
					time.Sleep(every)
				}
			}
			return nil
		})
	}()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("the replay: %v", err)
		}
	})
}

// A host on the path, without a key, sends captured words of an owner again when it is gone: 16 s
// of darkness before. With another voter restarted in between, which has forgotten what it saw.
func TestReplayedWords(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(map[bool]string{false: "the owner is cut off", true: "a voter has restarted"}[restart], func(t *testing.T) {
			beside(t)
			b := NewBed(t, 3)
			time.Sleep(4 * Lease)
			b.Place(3)
			if b.Leader() == 3 { // an election is another matter
				b.must(b.Cluster.Stop(3))
				b.must(b.Cluster.Start(3))
				b.WaitSessions(3)
				b.WaitVoters(3)
				time.Sleep(4 * Lease)
				b.Place(3)
			}
			var packets [][]byte
			for _, voter := range []int{1, 2} {
				packets = append(packets, b.eavesdrop(b.Lab.Node(voter), b.Lab.Node(3).IP(0), 4*Lease)...)
			}
			if len(packets) < 10 {
				t.Fatalf("%d words of the owner were seen", len(packets))
			}
			if restart {
				other := b.other(b.Leader(), 3)
				b.must(b.Cluster.Restart(other))
				b.WaitSessions(3)
				b.WaitVoters(3)
				time.Sleep(4 * Lease)
			}
			m := b.Watch(func() {
				stop := b.repeat(b.Lab.Client(), 2*time.Millisecond, 1, packets)
				defer stop()
				b.must(b.Lab.Node(3).SetLink(0, false))
				b.NewOwner(1, 3)
				time.Sleep(2 * Lease)
			})
			noDual(t, m)
			t.Logf("%d captured words sent again: gap %s", len(packets), m.Gap)
			if m.Gap-m.Still > 4*Lease {
				t.Errorf("replays kept the HAVIP dark for %s", m.Gap)
			}
		})
	}
}

// Without a key: datagrams at both UDP ports, and connections that speak of 20 MB. The owner keeps
// its lease, little is written, little memory is used. The second time from the address of a member.
func TestFloodOfDatagrams(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	time.Sleep(4 * Lease)
	owner := b.Owner()
	cluster := b.state(1).Cluster.ID
	for _, source := range []netip.Addr{b.Lab.Client().IP(0), b.Lab.Node(owner%3 + 1).IP(0)} {
		before, lines, memory := b.sessions(), b.logLines(owner), b.metric(owner, "process_resident_memory_bytes")
		m := b.Watch(func() {
			stop := b.repeat(b.Lab.Client(), time.Millisecond, 12, floodOf(source, b.Lab.Node(owner).IP(0), cluster))
			defer stop()
			closed := b.heavyStreams(b.Lab.Node(owner).IP(0), cluster)
			time.Sleep(10 * Lease)
			t.Logf("from %s: %d of 30 connections closed, %.0f datagrams dropped at the lease port", source, closed, b.metric(owner, "havip_datagrams_dropped_total"))
		})
		noDual(t, m)
		if now := b.sessions(); now[b.Cluster.NodeName(owner)] != before[b.Cluster.NodeName(owner)] || b.Owner() != owner {
			t.Errorf("the owner lost its lease: sessions %v, then %v", before, now)
		}
		if n := b.logLines(owner) - lines; n > 10 {
			t.Errorf("%d lines in its log:\n%s", n, b.Cluster.Tail(owner))
		}
		if grown := b.metric(owner, "process_resident_memory_bytes") - memory; grown > 64<<20 {
			t.Errorf("its memory grew by %.0f bytes", grown)
		}
		if b.metric(owner, "havip_datagrams_dropped_total") < 1000 {
			t.Error("the flood did not arrive")
		}
	}
}

func (b *Bed) logLines(node int) int {
	b.t.Helper()
	raw, err := os.ReadFile(b.Cluster.LogPath(node))
	b.must(err)
	return bytes.Count(raw, []byte("\n"))
}

// floodOf are packets to the ports of words, with and without the looks of a frame.
func floodOf(from, to netip.Addr, cluster string) (out [][]byte) {
	label := append([]byte{244, byte(len(cluster))}, cluster...) // of memberlist
	frame := append([]byte{1, 1, 0, 0}, bytes.Repeat([]byte{7}, 200)...)
	for _, d := range []struct {
		port    uint16
		payload []byte
	}{{gossipPort, append(label, bytes.Repeat([]byte{9}, 100)...)}, {gossipPort, []byte("x")}, {leasePort, frame}, {leasePort, bytes.Repeat([]byte{1}, 1000)}} {
		p := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
		p = append(append(p, from.AsSlice()...), to.AsSlice()...)
		p = bits.BigEndian.AppendUint16(p, 5555)
		p = bits.BigEndian.AppendUint16(p, d.port)
		p = bits.BigEndian.AppendUint16(p, uint16(8+len(d.payload)))
		p = append(append(p, 0, 0), d.payload...) // no UDP checksum (RFC 768); the kernel fills in IP's
		out = append(out, p)
	}
	return out
}

// heavyStreams opens connections to the gossip port that speak of 20 MB each, and says how many
// were closed before a megabyte was in.
func (b *Bed) heavyStreams(to netip.Addr, cluster string) (closed int) {
	b.t.Helper()
	b.must(b.Lab.Client().Do(func() error {
		head := append([]byte{244, byte(len(cluster))}, cluster...)
		head = bits.BigEndian.AppendUint32(append(head, 10), 20<<20)
		for range 30 {
			c, err := net.DialTimeout("tcp", netip.AddrPortFrom(to, gossipPort).String(), time.Second)
			if err != nil {
				closed++
				continue
			}
			_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
			_, err = c.Write(append(bytes.Clone(head), make([]byte, 1<<20)...))
			if _, end := c.Read(make([]byte, 1)); err != nil || !os.IsTimeout(end) {
				closed++
			}
			_ = c.Close()
		}
		return nil
	}))
	return closed
}
