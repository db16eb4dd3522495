package edge

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"havip-cluster/netdev"
)

const (
	askWait  = 150 * time.Millisecond // for answers to one question
	askTimes = 2                      // questions, because one may be lost
	askKeep  = time.Minute            // for how long an answer counts; then the owner asks again
	askMax   = 20000                  // addresses whose answers are remembered
)

// Asker asks the neighbours whether one of them has an address that nobody of the cluster has
// served yet, as a DHCP server does before it lends one (RFC 2131 section 2.2, RFC 5227).
// It writes nothing. What it found is asked by Answer.
type Asker struct {
	// Who says whose a MAC is: "" is this host itself, node is true for a member of the cluster.
	Who func(net.HardwareAddr) (name string, node bool)
	// Changed is called when answers have come.
	Changed func()

	mu      sync.Mutex
	waiting map[int]map[netip.Addr]bool // by ifindex, until the answer is there
	answers map[netip.Addr]answer
	wake    chan struct{}
}

type answer struct {
	taken string // "": nobody has it
	at    time.Time
}

// NewAsker asks nothing before Run.
func NewAsker(who func(net.HardwareAddr) (name string, node bool), changed func()) *Asker {
	return &Asker{
		Who: who, Changed: changed, waiting: map[int]map[netip.Addr]bool{}, answers: map[netip.Addr]answer{}, wake: make(chan struct{}, 1),
	}
}

// Answer says whether an address is still being asked for on a device, and if not who has it;
// "" is nobody. The first call asks.
func (a *Asker) Answer(index int, ip netip.Addr) (asking bool, taken string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if got, known := a.answers[ip]; known && time.Since(got.at) < askKeep {
		return false, got.taken
	}
	if a.waiting[index] == nil {
		a.waiting[index] = map[netip.Addr]bool{}
	}
	if !a.waiting[index][ip] {
		a.waiting[index][ip] = true
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
	return true, ""
}

// Forget has the next Answer ask again: an answer counts for one life of the address.
func (a *Asker) Forget(ip netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.answers, ip)
}

// Run asks until ctx ends.
func (a *Asker) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
		a.mu.Lock()
		todo := map[int][]netip.Addr{}
		for index, ips := range a.waiting {
			if len(ips) > 0 {
				todo[index] = slices.SortedFunc(maps.Keys(ips), netip.Addr.Compare)
			}
		}
		if len(a.answers) > askMax {
			clear(a.answers)
		}
		a.mu.Unlock()
		for _, index := range slices.Sorted(maps.Keys(todo)) {
			a.ask(ctx, index, todo[index])
		}
		if ctx.Err() == nil {
			a.Changed()
		}
	}
}

// Ask asks once for one address, within askWait, and says who outside the cluster has it; "" is
// nobody. Members do not count: their fences shut before anybody owns it. Answer knows nothing
// of it: the first owner asks again.
func (a *Asker) Ask(ctx context.Context, index int, ip netip.Addr) string {
	return a.others(ctx, index, []netip.Addr{ip}, false)[ip]
}

// others asks once and says which addresses somebody else has; members count if nodes is true.
func (a *Asker) others(ctx context.Context, index int, ips []netip.Addr, nodes bool) map[netip.Addr]string {
	got, _ := netdev.ProbeAll(ctx, index, ips, askWait)
	return a.taken(got, nodes)
}

// taken says of each address who has it.
func (a *Asker) taken(got map[netip.Addr][]net.HardwareAddr, nodes bool) map[netip.Addr]string {
	taken := map[netip.Addr]string{}
	for ip, macs := range got {
		var found []string
		for _, mac := range macs {
			if name, node := a.Who(mac); name != "" && (nodes || !node) {
				found = append(found, fmt.Sprintf("%s, MAC %s", name, mac))
			}
		}
		if len(found) > 0 {
			taken[ip] = fmt.Sprintf("%v is in use by %s", ip, strings.Join(found, ", and "))
		}
	}
	return taken
}

// ask asks for all addresses of one device together. A question that could not be sent is no
// reason not to serve: then nothing is known of others.
func (a *Asker) ask(ctx context.Context, index int, ips []netip.Addr) {
	taken := map[netip.Addr]string{}
	for range askTimes {
		// A member with a session has shut its fence by now. One that answers all the same has none.
		maps.Copy(taken, a.others(ctx, index, ips, true))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ip := range ips {
		a.answers[ip] = answer{taken[ip], time.Now()}
		delete(a.waiting[index], ip)
	}
	if len(a.waiting[index]) == 0 {
		delete(a.waiting, index)
	}
}
