package netdev

import (
	"context"
	"errors"
	"fmt"
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

// Watcher tells that links, addresses, routes or rules may have changed. It does not say what: a message may be lost
// (ENOBUFS), so only a fresh look at the kernel is the truth.
type Watcher struct {
	// OnError, if not nil, is called by Run with the reason of each lost subscription. Set it before Run.
	OnError func(error)

	c      chan struct{}
	buffer int // bytes
}

// NewWatcher returns a Watcher that does nothing until Run is called.
func NewWatcher() *Watcher { return &Watcher{c: make(chan struct{}, 1), buffer: watchBuffer} }

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
	w.signal() // what happened before the subscription is unknown
	for {
		_, from, err := s.Receive()
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("netdev: subscription: %w", err)
		}
		if from.Pid == nl.PidKernel { // other processes may send to the socket too
			w.signal()
		}
	}
}

// signal leaves one value in C.
func (w *Watcher) signal() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}
