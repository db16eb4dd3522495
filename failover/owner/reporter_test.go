package owner

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
	"havip-cluster/testbed/labtest"
)

// busy is a log that changes all the time.
type busy struct {
	ports.Log
	state atomic.Pointer[fsm.State]
	watch chan struct{}
}

func (l *busy) State() *fsm.State                { return l.state.Load() }
func (l *busy) Watch() (<-chan struct{}, func()) { return l.watch, func() {} }

// looking counts the inventories, and says what the newest was made from.
type looking struct {
	Edge
	looks atomic.Int32
	from  atomic.Pointer[fsm.State]
}

func (e *looking) Inventory(s *fsm.State) ([]fsm.ENI, string, error) {
	e.looks.Add(1)
	e.from.Store(s)
	return []fsm.ENI{{Device: "eth0"}}, "", nil
}

// The interfaces are looked at every reportEvery, also while the log changes more often than
// that, and at once when the operator names a device.
func TestInventoryWhileTheLogIsBusy(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		log, edge := &busy{watch: make(chan struct{}, 1)}, &looking{}
		first := fsm.New()
		first.Nodes["n-1"] = fsm.Node{ID: "n-1", Name: "n1"}
		first.ENIs["n1/eth0"] = fsm.ENI{ID: "n1/eth0", Node: "n-1", Device: "eth0"}
		log.state.Store(first)
		cfg := Config{Node: "n-1", Log: log, Edge: edge, Logger: slog.New(slog.DiscardHandler), Clock: func() lease.Instant { return 1 }}
		agent := New(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); newReporter(cfg, agent).run(ctx) }()
		changes := func(n int) {
			for range n {
				time.Sleep(100 * time.Millisecond)
				select {
				case log.watch <- struct{}{}:
				default:
				}
			}
			synctest.Wait()
		}
		changes(600)
		if n := edge.looks.Load(); n < 12 || n > 14 {
			t.Errorf("%d looks in a minute", n)
		}
		second := *first
		second.ENIs = map[string]fsm.ENI{"n1/eth0": first.ENIs["n1/eth0"], "n1/veth7": {ID: "n1/veth7", Node: "n-1", Device: "veth7", SetSubnet: "net", Detached: true}}
		log.state.Store(&second)
		changes(1)
		if edge.from.Load() != &second {
			t.Error("the operator's word was not looked at")
		}
		cancel()
		<-ended
	})
}
