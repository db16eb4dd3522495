// Package faults is the one catalogue of what the evidence breaks. It has three players: jepsen/nemesis on
// real clusters from a seed, jepsen/bench on real clusters beside Keepalived, and jepsen/sim in virtual
// time. A test of each holds it to its column, so a fault that nobody plays, or that is played and not
// listed, fails. It also has what two players do alike to a lab.
package faults

import (
	"fmt"
	"strings"
)

// Fault is one kind. An empty column means that this player does not have it, and Why says why.
type Fault struct {
	Name string
	What string
	// Outage: it may take the majority away, or the client's way, so that service may stop.
	Outage bool
	// Trial: nemesis plays it under Name.
	Trial bool
	// Bench are its rows' names in jepsen/bench.
	Bench []string
	// Sim are the words of jepsen/sim's schedules for it.
	Sim []string
	// Why a player lacks it, where that is not plain.
	Why string
}

// Catalogue is sorted by what is hit: the LAN, the processes, the disk, the clock, the host, the members.
var Catalogue = []Fault{
	{Name: "partition", What: "the LAN is cut in two by the switch", Trial: true, Sim: []string{"split"}, Why: "bench cuts one node off, which is isolate"},
	{Name: "isolate", What: "one node is cut off from all others; clients reach both sides", Trial: true, Bench: []string{"partition"}, Sim: []string{"isolate"}},
	{Name: "bridge", What: "two nodes are cut from each other, both reach the rest", Trial: true, Sim: []string{"cut"}},
	{Name: "one-way out", What: "a node is not heard", Trial: true, Sim: []string{"oneway"}},
	{Name: "one-way in", What: "a node hears nobody", Trial: true, Sim: []string{"oneway"}},
	{Name: "loss", What: "frames are lost, in the simulation also late, twice and out of order", Outage: true, Trial: true, Sim: []string{"weather", "hold"}, Why: "real labs have no delay and no reordering: kernels without netem exist"},
	{Name: "shut port", What: "one port of a node is shut, for all or for one", Sim: []string{"shut", "shut-to"}, Why: "on the real kernel by TestStatusNamesABlockedPort"},
	{Name: "link down", What: "a node's port of the switch goes down: the loss of the host, as others see it", Trial: true, Bench: []string{"host loss", "host loss, leader and owner at once", "leader loss"}, Sim: []string{"link"}},
	{Name: "freeze agent", What: "SIGSTOP, SIGCONT of the agent", Trial: true, Sim: []string{"freeze-at"}},
	{Name: "freeze guard", What: "SIGSTOP, SIGCONT of the guard", Trial: true, Why: "the simulation has no guard: the kernel's part is modelled"},
	{Name: "freeze both", What: "SIGSTOP, SIGCONT of agent and guard", Trial: true, Bench: []string{"SIGSTOP, then SIGCONT"}, Sim: []string{"freeze"}},
	{Name: "pause", What: "a guest is paused: nothing of it runs, and its clocks stand still", Sim: []string{"pause"}, Why: "namespaces share the machine's clock; directed schedules alone, for what a woken guest may do is bounded, not nothing"},
	{Name: "kill agent", What: "SIGKILL of the agent", Trial: true, Sim: []string{"kill"}},
	{Name: "kill guard", What: "SIGKILL of the guard", Trial: true, Why: "the simulation has no guard"},
	{Name: "kill both", What: "SIGKILL of agent and guard at once", Trial: true, Bench: []string{"SIGKILL of all"}, Sim: []string{"kill"}},
	{Name: "kill leader", What: "SIGKILL of both at whoever leads", Trial: true, Sim: []string{"kill"}},
	{Name: "kill all", What: "SIGKILL of every node", Outage: true, Trial: true, Sim: []string{"kill"}},
	{Name: "power", What: "the machine loses power: the kernel's state is gone too", Sim: []string{"power"}, Why: "real labs share one kernel"},
	{Name: "restart", What: "SIGTERM, and at once a new start", Trial: true, Sim: []string{"stop", "upgrade"}},
	{Name: "stop", What: "SIGTERM", Trial: true, Bench: []string{"clean stop"}, Sim: []string{"stop"}},
	{Name: "slow disk", What: "each write of the log waits", Trial: true, Sim: []string{"slow"}},
	{Name: "hung disk", What: "the log's disk stands still for seconds", Trial: true, Sim: []string{"stall"}},
	{Name: "failing disk", What: "every access is an error, what was not synced is lost", Trial: true, Sim: []string{"power"}},
	{Name: "full disk", What: "no free block", Trial: true, Sim: []string{"full"}},
	{Name: "other clock", What: "a node starts with clocks days ahead", Trial: true, Why: "in the simulation each host has its own rate and offset all along"},
	{Name: "wall clock", What: "somebody sets the wall clock", Sim: []string{"wall"}, Why: "setting the machine's would be rude"},
	{Name: "busy cores", What: "busy loops on every core", Outage: true, Trial: true, Bench: []string{"eight busy loops"}, Why: "virtual time has no load; freezes at seams stand for it"},
	{Name: "kernel fails", What: "calls of the edge to the kernel fail, its tables are flushed, a fence or an address is tampered with", Sim: []string{"edge", "flush", "stray", "keep", "unfence"}, Why: "on the real kernel by the tests of jepsen/scenario"},
	{Name: "forged messages", What: "gossip lies; datagrams are forged or sent again", Sim: []string{"lies", "forge", "replay"}, Why: "with real frames by the tests of jepsen/scenario"},
	{Name: "membership", What: "a node is removed for good and joins again, empty", Trial: true, Sim: []string{"replace"}},
	{Name: "operator", What: "moves and changes while faults happen; trial's workload does the same", Bench: []string{"planned move"},
		Sim: []string{"move", "standby", "maintenance", "disable", "ban", "delete", "create", "recreate", "lease"}},
}

// Trials are the names that nemesis plays, in the catalogue's order.
func Trials() (names []string) {
	for _, f := range Catalogue {
		if f.Trial {
			names = append(names, f.Name)
		}
	}
	return names
}

// Markdown is the table of jepsen/DESIGN.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| fault | what | `make jepsen` | `make bench` | simulation | why not everywhere |\n|---|---|---|---|---|---|\n")
	for _, f := range Catalogue {
		trial := ""
		if f.Trial {
			trial = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", f.Name, f.What, trial, strings.Join(f.Bench, "; "), strings.Join(f.Sim, ", "), f.Why)
	}
	return b.String()
}
