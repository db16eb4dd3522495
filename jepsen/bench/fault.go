package bench

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Names of the faults, as the table has them.
const (
	hostLoss       = "host loss"
	hostLossLeader = "host loss, leader and owner at once"
	killAll        = "SIGKILL of all"
	freeze         = "SIGSTOP, then SIGCONT"
	partition      = "partition"
	cleanStop      = "clean stop"
	plannedMove    = "planned move"
	leaderLoss     = "leader loss"
	busyLoops      = "eight busy loops"
)

// errNotOffered is of a fault that has no meaning for a contender; its row is left out.
var errNotOffered = errors.New("the contender has no such thing")

// role says who must lead before a fault.
type role int

const (
	anyone     role = iota
	notTheOne       // another node than the victim
	theOne          // the victim
	noOwnerHit      // the victim leads and owns nothing
)

// fault breaks the victim and mends it again. The victim owns the address, but where the role says otherwise.
type fault struct {
	name   string
	lead   role
	hold   time.Duration // how long it lasts; 0: the contender's patience
	strike func(b *bed, victim int) error
	mend   func(b *bed, victim int) error
}

var faults = []fault{
	{hostLoss, notTheOne, 0, cut, plug},
	{hostLossLeader, theOne, 0, cut, plug},
	{killAll, notTheOne, 0, func(b *bed, v int) error { return b.contender.Signal(v, syscall.SIGKILL) }, restart},
	{freeze, notTheOne, 0, func(b *bed, v int) error { return b.contender.Signal(v, syscall.SIGSTOP) },
		func(b *bed, v int) error { return b.contender.Signal(v, syscall.SIGCONT) }},
	{partition, notTheOne, 0, part, func(b *bed, _ int) error { return b.lab.Heal() }},
	{cleanStop, notTheOne, 0, func(b *bed, v int) error { return b.contender.Stop(v) }, restart},
	{plannedMove, notTheOne, time.Second, move, nothing},
	{leaderLoss, noOwnerHit, 0, cut, plug},
	{busyLoops, anyone, 20 * time.Second, (*bed).burn, func(b *bed, _ int) error { return b.calm() }},
}

// faultCalled is one of the faults.
func faultCalled(name string) (fault, bool) {
	for _, f := range faults {
		if f.name == name {
			return f, true
		}
	}
	return fault{}, false
}

func cut(b *bed, v int) error     { return b.lab.Node(v).SetLink(0, false) }
func plug(b *bed, v int) error    { return b.lab.Node(v).SetLink(0, true) }
func restart(b *bed, v int) error { return b.contender.Restart(v) }
func nothing(*bed, int) error     { return nil }

// part cuts the victim off from the other nodes; the client reaches both sides.
func part(b *bed, victim int) error {
	lonely, rest := b.lab.Clients(), b.lab.Clients()
	for i, h := range b.lab.Nodes() {
		if i+1 == victim {
			lonely = append(lonely, h)
			continue
		}
		rest = append(rest, h)
	}
	return b.lab.Partition(lonely, rest)
}

// move is what an operator asks for.
func move(b *bed, owner int) error {
	l, ok := b.contender.(leading)
	if !ok {
		return errNotOffered
	}
	to := owner%len(b.lab.Nodes()) + 1
	return l.Move(to)
}

// burn keeps every core busy with eight ordinary processes.
func (b *bed) burn(int) error {
	for range max(8, runtime.NumCPU()) {
		// It ends by itself, too, should this process die first.
		c := exec.Command("timeout", "--foreground", "60", "sh", "-c", "while :; do :; done")
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := c.Start(); err != nil {
			return errors.Join(fmt.Errorf("busy loop: %w", err), b.calm())
		}
		b.burners = append(b.burners, c)
	}
	return nil
}

// calm ends the busy loops.
func (b *bed) calm() error {
	for _, c := range b.burners {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait() // killed: that is its error
	}
	b.burners = nil
	return nil
}
