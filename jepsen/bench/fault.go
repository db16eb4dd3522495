package bench

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	catalogue "havip-cluster/jepsen/faults"
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

// fault breaks the victim, and heal mends it again. The victim owns the address, but where the role says
// otherwise. Each is in the catalogue of jepsen/faults.
type fault struct {
	name   string
	lead   role
	hold   time.Duration // how long it lasts; 0: the contender's patience
	strike func(b *bed, victim int) (heal func() error, err error)
}

var faults = []fault{
	{hostLoss, notTheOne, 0, linkDown},
	{hostLossLeader, theOne, 0, linkDown},
	{killAll, notTheOne, 0, func(b *bed, v int) (func() error, error) {
		return b.restart(v), b.contender.Signal(v, syscall.SIGKILL)
	}},
	{freeze, notTheOne, 0, func(b *bed, v int) (func() error, error) {
		return func() error { return b.contender.Signal(v, syscall.SIGCONT) }, b.contender.Signal(v, syscall.SIGSTOP)
	}},
	{partition, notTheOne, 0, func(b *bed, v int) (func() error, error) { return catalogue.Isolate(b.lab, v) }},
	{cleanStop, notTheOne, 0, func(b *bed, v int) (func() error, error) { return b.restart(v), b.contender.Stop(v) }},
	{plannedMove, notTheOne, time.Second, move},
	{leaderLoss, noOwnerHit, 0, linkDown},
	{busyLoops, anyone, 20 * time.Second, func(b *bed, _ int) (func() error, error) { return b.calm, b.burn() }},
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

func linkDown(b *bed, v int) (func() error, error) { return catalogue.LinkDown(b.lab, v) }

func (b *bed) restart(v int) func() error { return func() error { return b.contender.Restart(v) } }

// move is what an operator asks for.
func move(b *bed, owner int) (func() error, error) {
	l, ok := b.contender.(leading)
	if !ok {
		return nil, errNotOffered
	}
	return func() error { return nil }, l.Move(owner%b.scene.voters + 1)
}

// burn keeps every core busy with eight ordinary processes.
func (b *bed) burn() error {
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
