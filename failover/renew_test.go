package failover

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
	"havip-cluster/netdev"
	"havip-cluster/netdev/fence"
)

// onOneHost runs f on a thread in network and mount namespaces of its own, which end with
// it, on a host with an ENI. It needs root.
func onOneHost(t testing.TB, f func(eni netdev.ENI, dir string)) {
	t.Helper()
	dir := t.TempDir()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked
		if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
			t.Errorf("namespaces: %v (this test needs root)", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Errorf("private mounts: %v", err)
			return
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eth0"
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer0"}); err != nil {
			t.Error(err)
			return
		}
		for _, name := range []string{"eth0", "peer0", "lo"} {
			link, err := netlink.LinkByName(name)
			if err == nil {
				err = netlink.LinkSetUp(link)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
		dev, err := net.InterfaceByName("eth0")
		if err != nil {
			t.Error(err)
			return
		}
		f(netdev.ENI{Device: "eth0", Index: dev.Index, MAC: dev.HardwareAddr, Up: true, Primary: true}, dir)
	}()
	<-done
}

// still is a log in which nothing happens.
type still struct {
	state *fsm.State
	set   lease.VoterSet
}

func (l *still) State() *fsm.State                { return l.state }
func (l *still) Watch() (<-chan struct{}, func()) { return nil, func() {} }
func (l *still) VoterSet() lease.VoterSet         { return l.set }
func (l *still) Leading() (uint64, bool)          { return 0, false }
func (l *still) LeaderID() string                 { return "" }
func (l *still) CaughtUp() bool                   { return true }
func (l *still) Applied() uint64                  { return l.state.Index }
func (l *still) Propose(context.Context, uint64, string, fsm.Body) (fsm.Result, error) {
	return fsm.Result{}, nil
}

// wires carries datagrams between Members, at once.
type wires map[string]*Member

func (w wires) Send(to fsm.Node, msg []byte) error {
	w[to.ID].Receive(msg)
	return nil
}

// renewing is three real Members without their loops; the first holds HAVIPs, on a real
// edge with a real fence.
type renewing struct {
	keeper *Keeper
	edge   *NetEdge
	held   []Holding
	now    lease.Instant
}

func (r *renewing) clock() lease.Instant { return r.now }

// renew sends a round to the three voters and takes their acknowledgements.
func (r *renewing) renew() {
	r.now = r.now.Add(100 * time.Millisecond)
	r.keeper.round()
}

func newRenewing(t testing.TB, kind fence.Kind, havips int, eni netdev.ENI, dir string) (*renewing, func()) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	const length = 500 * time.Millisecond
	state := fsm.New()
	state.Cluster.Lease, state.Cluster.LeaseMax = length, length
	for _, id := range []string{"n-1", "n-2", "n-3"} {
		state.Nodes[id] = fsm.Node{ID: id, Name: id}
	}
	state.Sessions[7] = fsm.Session{Number: 7, Node: "n-1", Lease: length}
	f, _, err := fence.New(fence.Config{Owner: "renew_test", Prefer: kind})
	must(err)
	edge, err := NewNetEdge(slog.New(slog.DiscardHandler), f, func() *fsm.State { return state })
	must(err)
	edge.devices[eni.Device] = eni
	r := &renewing{edge: edge, now: Boot()}
	for i := range havips {
		v := fsm.HAVIP{ID: fmt.Sprint("h-", i), IP: netip.AddrFrom4([4]byte{10, 9, byte(i / 250), byte(i%250 + 1)})}
		v.Owner = &fsm.Claim{Session: 7, Node: "n-1", ENI: "n-1/eth0", Epoch: 1}
		state.HAVIPs[v.ID] = v
		h := Holding{HAVIP: v, Claim: *v.Owner, ENI: fsm.ENI{ID: "n-1/eth0", Device: eni.Device, MAC: eni.MAC.String()}, Lifetime: 3 * time.Second}
		must(edge.Up(h))
		r.held = append(r.held, h)
	}
	log := &still{state: state, set: lease.NewVoterSet([]string{"n-1", "n-2", "n-3"})}
	members := wires{}
	for id := range state.Nodes {
		cfg := Config{Node: id, Log: log, Post: members, Clock: r.clock, Logger: slog.New(slog.DiscardHandler), Lease: length}
		if id == "n-1" {
			cfg.Owner, cfg.Edge = true, edge
		}
		members[id] = New(cfg)
		members[id].Voter.acceptor = lease.NewAcceptor(id, r.now, lease.Promise(length))
		members[id].Voter.prepare()
	}
	r.keeper = members["n-1"].Keeper
	r.now = r.now.Add(time.Second) // the voters' silence is over
	r.keeper.begin(lease.NewHolder(lease.Session{Node: "n-1", Number: 7}, r.now, length), r.now, length)
	return r, func() {
		for _, h := range r.held {
			must(edge.Down(h))
		}
		must(edge.Close())
		must(f.Uninstall())
	}
}

// BenchmarkRenewal is one round of a lease, from the holder through three voters to the
// kernel's deadline: everything but the network. With nftables the transaction is done by
// another goroutine, and netdev/fence has its cost (BenchmarkSetDeadline).
func BenchmarkRenewal(b *testing.B) {
	for _, havips := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(havips), func(b *testing.B) {
			onOneHost(b, func(eni netdev.ENI, dir string) {
				r, end := newRenewing(b, fence.EBPF, havips, eni, dir)
				defer end()
				b.ReportAllocs()
				for b.Loop() {
					r.renew()
				}
				if got, want := r.edge.fence.Deadline(), int64(r.now.Add(500*time.Millisecond)); got != want {
					b.Errorf("the kernel's deadline is %d, want %d", got, want)
				}
			})
		})
	}
}

// BenchmarkKeep is what a node does for all its HAVIPs once a second: each address is
// looked at and extended, and the fence is read back.
func BenchmarkKeep(b *testing.B) {
	for _, havips := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(havips), func(b *testing.B) {
			onOneHost(b, func(eni netdev.ENI, dir string) {
				r, end := newRenewing(b, fence.EBPF, havips, eni, dir)
				defer end()
				for b.Loop() {
					clear(r.edge.refreshed)
					for _, h := range r.held {
						if repairs, err := r.edge.Keep(h); err != nil || len(repairs) > 0 {
							b.Fatal(repairs, err)
						}
					}
				}
			})
		})
	}
}

// A renewal allocates nothing: neither at the holder, nor in the datagrams, nor at the
// voters, nor in the store of the deadline. Under the race detector sync.Pool forgets at
// random, so there the figure says nothing.
func TestRenewalAllocatesNothing(t *testing.T) {
	onOneHost(t, func(eni netdev.ENI, dir string) {
		r, end := newRenewing(t, fence.EBPF, 3, eni, dir)
		defer end()
		r.renew()
		if n := testing.AllocsPerRun(1000, r.renew); n != 0 && !raceDetector {
			t.Errorf("%v allocations in a renewal", n)
		}
		if got, want := r.edge.fence.Deadline(), int64(r.now.Add(500*time.Millisecond)); got != want {
			t.Errorf("the kernel's deadline is %d, want %d: it was not renewed", got, want)
		}
	})
}
