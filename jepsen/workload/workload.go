package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"havip-cluster/jepsen/netns"
)

const exitNotFound = 4 // of the binary

func exitCode(err error) int {
	var e *netns.CLIError
	if errors.As(err, &e) {
		return e.Code
	}
	return -1
}

// Plan says what the clients of one episode work on.
type Plan struct {
	Watched []string          // HAVIPs that are moved and read, never deleted; one client each moves it
	Objects map[string]string // name: address; all clients create, change, delete and read them
	Names   []string          // of Objects, in order
	Nodes   int
	Members []string      // nodes that ranges are made of
	Standby string        // a node that is set to standby and back; empty: none
	Clients int           // on Objects
	Pause   time.Duration // of a client between two operations, in the mean
	Seed    uint64
}

// Run lets all clients work until ctx ends, and returns when they have ended.
func (c *Client) Run(ctx context.Context, r *Recorder, p Plan) {
	var running sync.WaitGroup
	for i := range p.Clients {
		running.Go(func() { c.client(ctx, r, p, i) })
	}
	for i, name := range p.Watched {
		running.Go(func() { c.mover(ctx, r, p, i, name) })
	}
	if p.Standby != "" {
		running.Go(func() { c.stander(ctx, r, p) })
	}
	running.Wait()
}

// source is the randomness of one client: the same seed gives the same wishes, though not the
// same answers.
func source(seed uint64, client int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(client))) }

// rest waits for about the mean; it is false when the time is over.
func rest(ctx context.Context, rng *rand.Rand, mean time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(mean/2 + time.Duration(rng.Int64N(int64(mean)+1))):
		return true
	}
}

// client works on the objects. An operation that has begun is brought to its end when ctx ends.
func (c *Client) client(ctx context.Context, r *Recorder, p Plan, number int) {
	rng, me := source(p.Seed, number), fmt.Sprintf("client-%d", number+1)
	whole := context.WithoutCancel(ctx)
	for rest(ctx, rng, p.Pause) {
		name, node := p.Names[rng.IntN(len(p.Names))], 1+rng.IntN(p.Nodes)
		member := p.Members[rng.IntN(len(p.Members))]
		switch k := rng.IntN(100); {
		case k < 14:
			c.Create(whole, r, me, name, p.Objects[name], node, p.Members[:1+rng.IntN(len(p.Members))])
		case k < 22:
			c.Delete(whole, r, me, name, node)
		case k < 32:
			c.Switch(whole, r, me, name, k%2 == 0, node)
		case k < 48:
			c.ChangeRange(whole, r, me, name, member, k%2 == 0, node)
		case k < 54:
			c.Move(whole, r, me, name, member, node)
		case k < 90:
			c.Read(whole, r, me, name, false, node)
		case k < 98:
			c.Read(whole, r, me, name, true, node)
		default:
			c.readCLI(r, me, name, node)
		}
	}
}

// moverPause keeps the moves of one watched HAVIP far apart: the observer takes two moves within
// three of its polls for two owners.
const moverPause = 700 * time.Millisecond

// mover moves one watched HAVIP and reads it in between. It is the only one that moves it.
func (c *Client) mover(ctx context.Context, r *Recorder, p Plan, number int, name string) {
	rng, me := source(p.Seed, 1000+number), "mover-"+name
	whole := context.WithoutCancel(ctx)
	for rest(ctx, rng, moverPause) {
		node := 1 + rng.IntN(p.Nodes)
		if rng.IntN(2) == 0 {
			c.Move(whole, r, me, name, p.Members[rng.IntN(len(p.Members))], node)
		}
		c.Read(whole, r, me, name, rng.IntN(3) == 0, 1+rng.IntN(p.Nodes))
	}
}

// stander sets a node to standby and back. The last word is left to the caller.
func (c *Client) stander(ctx context.Context, r *Recorder, p Plan) {
	rng, me := source(p.Seed, 2000), "stander"
	whole := context.WithoutCancel(ctx)
	for on := true; rest(ctx, rng, 2*time.Second); on = !on {
		c.Standby(whole, r, me, p.Standby, on, 1+rng.IntN(p.Nodes))
	}
}
