package netdev

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// watchBuffer is the receive buffer of the subscription in bytes, room for some thousand notifications.
	watchBuffer = 1 << 20

	// The pause before a new subscription doubles from the first to the last value. The first is far below the
	// 100 ms within which a lost address has to be repaired.
	watchBackoffMin = 10 * time.Millisecond
	watchBackoffMax = time.Second
)

// watchGroups are the rtnetlink groups whose messages mean "look again", see rtnetlink(7).
var watchGroups = []uint{
	unix.RTNLGRP_LINK,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
	unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE,
}

// Kinds says what changed, as a set of bits.
type Kinds uint8

// The kinds of changes.
const (
	LinksChanged Kinds = 1 << iota
	AddressesChanged
	RoutesChanged
	RulesChanged

	// AllChanged is also said when notifications were lost.
	AllChanged = LinksChanged | AddressesChanged | RoutesChanged | RulesChanged
)

// Requester is a socket of this process whose own changes a Watcher does not tell of: Addresses and Router.
type Requester interface {
	requester() (port uint32, own *expected)
}

// Watcher tells that links, addresses, routes or rules may have changed. Of what it tells only the kind is known: a message
// may be lost (ENOBUFS), so only a fresh look at the kernel is the truth.
//
// It leaves out what concerns nobody here (routes of the local table, cached routes, states of bridge ports) and what the
// Requesters did themselves, as far as the kernel says who did it: all of IPv4, routes and rules; of IPv6 addresses the
// removals that were just asked for, and whatever keeps or gives an address the project's mark.
type Watcher struct {
	// OnError, if not nil, is called by Run with the reason of each lost subscription. Set it before Run.
	OnError func(error)

	c       chan struct{}
	changed atomic.Uint32 // Kinds since Take
	own     []Requester
	buffer  int // bytes
}

// NewWatcher returns a Watcher that does nothing until Run is called. It does not tell of what own do; none of them may be
// closed before Run has ended, because the kernel gives a number of a closed socket to the next one.
func NewWatcher(own ...Requester) *Watcher {
	return &Watcher{c: make(chan struct{}, 1), own: own, buffer: watchBuffer}
}

// Take returns what changed since the last call.
func (w *Watcher) Take() Kinds { return Kinds(w.changed.Swap(0)) }

// C delivers at least one value after each change and after each (re)subscription. Changes that come before the value
// is taken are one value. The channel is never closed.
func (w *Watcher) C() <-chan struct{} { return w.c }

// Run watches until ctx ends and returns ctx.Err(). A subscription that dies is replaced, with a pause of 10 ms to 1 s.
// When Run returns its goroutines have ended. Only one Run at a time.
func (w *Watcher) Run(ctx context.Context) error {
	pause := watchBackoffMin
	for ctx.Err() == nil {
		began := time.Now()
		err := w.watch(ctx)
		if ctx.Err() != nil {
			break
		}
		if w.OnError != nil {
			w.OnError(err)
		}
		if time.Since(began) > watchBackoffMax {
			pause = watchBackoffMin
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, watchBackoffMax)
	}
	return ctx.Err()
}

// watch lives as long as one subscription and returns why it ended.
func (w *Watcher) watch(ctx context.Context) error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, watchGroups...)
	if err != nil {
		return fmt.Errorf("netdev: subscribe: %w", err)
	}
	defer s.Close()
	// Forcing needs CAP_NET_ADMIN of the first user namespace; without it the kernel's limit rmem_max has to do.
	if err := s.SetReceiveBufferSize(w.buffer, true); err != nil {
		if err := s.SetReceiveBufferSize(w.buffer, false); err != nil {
			return fmt.Errorf("netdev: subscription buffer: %w", err)
		}
	}
	defer onDone(ctx, s.Close)()
	for _, r := range w.own {
		if _, own := r.requester(); own != nil {
			own.clear()
		}
	}
	w.signal(AllChanged) // what happened before the subscription is unknown
	for {
		messages, from, err := s.Receive()
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("netdev: subscription: %w", err)
		}
		if from.Pid != nl.PidKernel { // other processes may send to the socket too
			continue
		}
		var kinds Kinds
		for _, m := range messages {
			kinds |= w.concerns(m.Header.Type, m.Header.Pid, m.Data)
		}
		w.signal(kinds)
	}
}

// concerns says what a notification tells, 0 if nothing that matters.
func (w *Watcher) concerns(kind uint16, port uint32, body []byte) Kinds {
	for _, r := range w.own {
		if own, _ := r.requester(); port == own && port != 0 {
			return 0
		}
	}
	switch kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(body) > 0 && body[0] == unix.AF_BRIDGE { // ports come and go with a message of their own
			return 0
		}
		return LinksChanged
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		m, err := parseAddrMsg(body)
		if err == nil && m.prefix.Addr().Is6() && w.ownAddress(kind, m) {
			return 0
		}
		return AddressesChanged
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		m, err := parseRouteMsg(body)
		if err == nil && (m.table == unix.RT_TABLE_LOCAL || m.cached) {
			return 0
		}
		return RoutesChanged
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return RulesChanged
	}
	return AllChanged
}

// ownAddress says whether an IPv6 notification is of what this process did, see expected. Only this project gives addresses
// its mark; that one is refreshed, deprecated or still there is no news. An address that runs out is removed, and is told.
func (w *Watcher) ownAddress(kind uint16, m addrMsg) bool {
	for _, r := range w.own {
		_, own := r.requester()
		if own == nil {
			continue
		}
		if kind == unix.RTM_NEWADDR && m.proto == Protocol && m.prefix.IsSingleIP() || kind == unix.RTM_DELADDR && own.take(m) {
			return true
		}
	}
	return false
}

// signal leaves one value in C, if there is something to tell.
func (w *Watcher) signal(kinds Kinds) {
	if kinds == 0 {
		return
	}
	w.changed.Or(uint32(kinds))
	select {
	case w.c <- struct{}{}:
	default:
	}
}
