// Package nemesis breaks things: what, where and when follows from one seed.
package nemesis

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Role says which node a fault is for; it is looked up when the fault begins.
type Role string

// The roles.
const (
	Leader Role = "leader"
	Owner  Role = "owner" // of the first watched HAVIP
	Number Role = "number"
)

// Planned is one fault of a schedule.
type Planned struct {
	Kind   string
	Role   Role
	Node   int           // for Number, and while there is no leader or owner
	After  time.Duration // since the begin of the episode
	Length time.Duration // until it is healed
	Dice   uint64        // for what else the kind has to choose
}

func (p Planned) String() string {
	who := string(p.Role)
	if p.Role == Number {
		who = fmt.Sprintf("node-%d", p.Node)
	}
	return fmt.Sprintf("%s (%s) at %v for %v", p.Kind, who, p.After, p.Length)
}

// Episode is a time of faults between two times of recovery.
type Episode struct {
	Number int
	Faults []Planned
	Seed   uint64 // of its workload
}

// Name is for people: the kinds of its faults.
func (e Episode) Name() string {
	var names []string
	for _, f := range e.Faults {
		names = append(names, f.Kind)
	}
	return strings.Join(names, " + ")
}

// Limits of one fault.
const (
	lengthMin  = 1500 * time.Millisecond
	lengthMax  = 5 * time.Second
	afterMax   = 1500 * time.Millisecond
	togetherIn = 2 // faults at the same time in a combined episode
)

// Schedule returns the first episodes of a seed: each kind alone once, in an order that the seed
// gives, then pairs of kinds at the same time, each kind as often as any other. It is a pure function.
func Schedule(seed uint64, kinds []string, nodes, episodes int) []Episode {
	rng := rand.New(rand.NewPCG(seed, 0x6a657073))
	var list []Episode
	var bag []string
	draw := func(not string) string {
		if len(bag) == 0 {
			bag = slices.Clone(kinds)
			rng.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
		}
		at := max(0, slices.IndexFunc(bag, func(k string) bool { return k != not }))
		kind := bag[at]
		bag = slices.Delete(bag, at, at+1)
		return kind
	}
	for n := range episodes {
		e := Episode{Number: n + 1}
		e.Faults = append(e.Faults, plan(rng, draw(""), nodes))
		if n >= len(kinds) {
			for len(e.Faults) < togetherIn {
				e.Faults = append(e.Faults, plan(rng, draw(e.Faults[0].Kind), nodes))
			}
		}
		e.Seed = rng.Uint64()
		list = append(list, e)
	}
	return list
}

func plan(rng *rand.Rand, kind string, nodes int) Planned {
	roles := []Role{Leader, Owner, Owner, Number}
	round := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	return Planned{
		Kind: kind, Role: roles[rng.IntN(len(roles))], Node: 1 + rng.IntN(nodes),
		After:  round(time.Duration(rng.Int64N(int64(afterMax)))),
		Length: round(lengthMin + time.Duration(rng.Int64N(int64(lengthMax-lengthMin)))),
		Dice:   rng.Uint64(),
	}
}
