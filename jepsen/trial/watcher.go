package trial

import (
	"context"
	"slices"
	"sync"
	"time"

	"havip-cluster/jepsen/history"
	"havip-cluster/jepsen/netns"
	"havip-cluster/jepsen/workload"
)

const (
	watchEvery = 200 * time.Millisecond
	watchTime  = 150 * time.Millisecond // an agent that does not answer in time says nothing
)

// node is one of "GET /v1/nodes", as far as it is of interest here.
type node struct {
	Name             string `json:"name"`
	Status           string `json:"status"`
	Leader           bool   `json:"leader"`
	Session          uint64 `json:"session"`
	LeaseRemainingMS int64  `json:"lease_remaining_ms"`
	Suffrage         string `json:"suffrage"`
}

// placement is one of "GET /v1/placement".
type placement struct {
	Name string  `json:"name"`
	Node *string `json:"node"`
}

// watcher asks every agent what it is: for the picture of the run, and to aim the faults.
type watcher struct {
	client  *workload.Client
	cluster *netns.Cluster
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu            sync.Mutex
	leader, owner int
	marks         []history.Mark
	last          map[string]history.Mark // by kind and node
}

func newWatcher(client *workload.Client, cluster *netns.Cluster) *watcher {
	return &watcher{client: client, cluster: cluster, last: map[string]history.Mark{}}
}

func (w *watcher) start() {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	for i := range w.cluster.Lab.Nodes() {
		w.running.Go(func() {
			for tick := time.NewTicker(watchEvery); ; {
				select {
				case <-ctx.Done():
					tick.Stop()
					return
				case <-tick.C:
					w.ask(i + 1)
				}
			}
		})
	}
}

func (w *watcher) stop() { w.cancel(); w.running.Wait() }

// Leader is the node that last said that it leads; 0: none so far.
func (w *watcher) Leader() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leader
}

// Owner is the owner of the first watched HAVIP, as last heard.
func (w *watcher) Owner() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.owner
}

// Marks returns what was seen so far.
func (w *watcher) Marks() []history.Mark {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.marks)
}

// ask notes what the agent of node i says of itself.
func (w *watcher) ask(i int) {
	var nodes []node
	var owned []placement
	name := w.cluster.NodeName(i)
	err := w.client.Get(i, "/v1/nodes?consistency=stale", watchTime, &nodes)
	self := slices.IndexFunc(nodes, func(n node) bool { return n.Name == name })
	var me node
	if err == nil && self >= 0 {
		me = nodes[self]
	}
	if me.LeaseRemainingMS == 0 {
		me.Session = 0
	}
	if me.Leader {
		_ = w.client.Get(i, "/v1/placement?consistency=stale&havip="+watched[0], watchTime, &owned)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	lead := uint64(0)
	if me.Leader {
		lead, w.leader = 1, i
	}
	w.note(history.MarkLeader, name, lead)
	w.note(history.MarkSession, name, me.Session)
	for _, p := range owned {
		for j := range w.cluster.Lab.Nodes() {
			if p.Node != nil && *p.Node == w.cluster.NodeName(j+1) {
				w.owner = j + 1
			}
		}
	}
}

// note adds a mark if it says something new.
func (w *watcher) note(kind, name string, value uint64) {
	m := history.Mark{Kind: kind, At: w.cluster.Lab.Now(), Node: name, Value: value}
	if last, seen := w.last[kind+name]; seen && last.Value == value {
		return
	}
	w.last[kind+name] = m
	w.marks = append(w.marks, m)
}
