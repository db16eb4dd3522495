package fence

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Proof says what was proved, and where.
type Proof struct {
	Kind Kind
	Hook string
	// Scratch is true if it was in a network namespace made for it; otherwise,
	// where that is not permitted, on a pair of devices made in the present one.
	Scratch bool
	// Took is how long it took.
	Took time.Duration
}

func (p Proof) String() string {
	where := "in a network namespace of its own"
	if !p.Scratch {
		where = "on devices of its own"
	}
	return fmt.Sprintf("proved %s in %v", where, p.Took.Round(time.Millisecond))
}

// ErrNotProved is returned by Prove with the reason.
var ErrNotProved = errors.New("fence: not proved")

// proveAhead is how far ahead the deadlines of the attempts are: killing the
// child, finding its fence and one frame each way must fit in. A busy host takes
// the later ones.
var proveAhead = []time.Duration{60 * time.Millisecond, 250 * time.Millisecond, time.Second, 4 * time.Second}

// proveMax bounds a proof: a node that must come back does not wait for one any longer.
const proveMax = 8 * time.Second

// frameWait is how long a frame may take over the pair of devices.
const frameWait = 500 * time.Millisecond

// childWait is how long the child may take until it has the fence open.
const childWait = 10 * time.Second

// proofEnv tells the child what to do.
const proofEnv = "HAVIP_FENCE_PROOF"

// asked is set when main has called ProofChild: only then does starting this
// binary again give a child that knows what it is.
var asked atomic.Bool

// errTooSlow is returned when the deadline came before all was looked at, or when a frame that nothing
// stops did not come: the kernel had not seen the carrier yet, or something else was in its way.
var errTooSlow = errors.New("the host was too slow")

// Prove shows on a scratch pair of devices that the hook's fence outlives its
// process: a child opens an address, is killed with SIGKILL, the fence is found
// again by query and lets frames pass in both directions until the deadline and
// none after it. Then everything is removed. Of cfg the Clock is not used. It
// takes some 100 ms; ErrNotProved has the reason. main must have called
// ProofChild.
func Prove(ctx context.Context, cfg Config, hook string) (Proof, error) {
	if !asked.Load() {
		return Proof{}, fmt.Errorf("%w: main does not call fence.ProofChild", ErrNotProved)
	}
	start := time.Now()
	type result struct {
		scratch bool
		err     error
	}
	done := make(chan result, 1)
	go func() {
		// Never unlocked: the thread ends, and the scratch namespace with it.
		runtime.LockOSThread()
		scratch := unix.Unshare(unix.CLONE_NEWNET) == nil
		var err error
		for _, ahead := range proveAhead {
			if err = proveOnce(ctx, hook, ahead); !errors.Is(err, errTooSlow) || ctx.Err() != nil {
				break
			}
		}
		done <- result{scratch, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-time.After(proveMax):
		return Proof{}, fmt.Errorf("%w: %s: %w: no result after %v", ErrNotProved, hook, errTooSlow, proveMax)
	}
	if r.err != nil {
		return Proof{}, fmt.Errorf("%w: %s: %w", ErrNotProved, hook, r.err)
	}
	kind := EBPF
	if hook == HookNFTables {
		kind = NFTables
	}
	return Proof{Kind: kind, Hook: hook, Scratch: r.scratch, Took: time.Since(start)}, nil
}

// task is what the child of a proof gets.
type task struct {
	Owner, Hook string
	Index       int
	IP          netip.Addr
	Ahead       time.Duration
}

// Addresses of the proof, from the block for documentation (RFC 5737).
var (
	proofIP    = netip.AddrFrom4([4]byte{192, 0, 2, 77})
	proofOther = netip.AddrFrom4([4]byte{192, 0, 2, 78})
)

func proveOnce(ctx context.Context, hook string, ahead time.Duration) (err error) {
	var unique [5]byte
	_, _ = rand.Read(unique[:]) // never fails
	name := "hvp" + hex.EncodeToString(unique[:])
	near, far, remove, err := scratchPair(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	wire, err := openWire(near, far)
	if err != nil {
		return err
	}
	defer wire.close()
	t := task{Owner: "proof " + name, Hook: hook, Index: near, IP: proofIP, Ahead: ahead}
	// After the child: whatever it left has to be found by query, and goes.
	defer func() { err = errors.Join(err, removeProof(t.Owner)) }()
	deadline, err := killedChild(ctx, t)
	if err != nil {
		return err
	}
	if err := foundAgain(t, deadline); err != nil {
		return err
	}
	for dir := range wire {
		passed, err := wire.pass(direction(dir))
		if err != nil {
			return err
		}
		if BootNow() >= deadline-slackMax.Nanoseconds() {
			return fmt.Errorf("%w: no time was left before the deadline", errTooSlow)
		}
		if !passed {
			return fmt.Errorf("%s: a frame of an open address was dropped before the deadline", direction(dir))
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(deadline-BootNow()) + time.Millisecond):
	}
	for dir := range wire {
		passed, err := wire.pass(direction(dir))
		if err != nil {
			return err
		}
		if passed {
			return fmt.Errorf("%s: a frame passed after the deadline", direction(dir))
		}
	}
	return nil
}

// slackMax is how much before the deadline the nftables kind may fall silent:
// its slack, twice, and a tick of the kernel.
const slackMax = 2*slackMin + 10*time.Millisecond

func scratchPair(name string) (near, far int, remove func() error, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name + "a"
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: name + "b"}
	if err := netlink.LinkAdd(pair); err != nil {
		return 0, 0, nil, fmt.Errorf("a pair of devices: %w", err)
	}
	remove = func() error {
		if err := netlink.LinkDel(pair); err != nil {
			return fmt.Errorf("remove %s: %w", attrs.Name, err)
		}
		return nil
	}
	var index [2]int
	for i, name := range []string{attrs.Name, pair.PeerName} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			index[i] = l.Attrs().Index
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			return 0, 0, nil, errors.Join(fmt.Errorf("device %s: %w", name, err), remove())
		}
	}
	return index[0], index[1], remove, nil
}

// killedChild starts the child, waits until it has the fence open, and kills it.
func killedChild(ctx context.Context, t task) (deadline int64, err error) {
	text, err := json.Marshal(t)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, childWait)
	defer cancel()
	// The thread is locked, so the child is born into its network namespace, and
	// into the mount namespace of the process.
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), proofEnv+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("child: %w", err)
	}
	line, readErr := bufio.NewReader(out).ReadString('\n')
	killErr := cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch {
	case readErr != nil:
		return 0, fmt.Errorf("child: no answer: %w", readErr)
	case killErr != nil && !errors.Is(killErr, os.ErrProcessDone):
		return 0, fmt.Errorf("child: %w", killErr)
	case word != "open":
		return 0, fmt.Errorf("child: %s", rest)
	}
	return strconv.ParseInt(rest, 10, 64)
}

// ProofChild is the first thing that main calls. It is true in the child of a
// proof, which has done all it was started for; main returns then.
func ProofChild() bool {
	asked.Store(true)
	text := os.Getenv(proofEnv)
	if text == "" {
		return false
	}
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		fmt.Println("failed", err)
		return true
	}
	runtime.LockOSThread()
	deadline, err := t.open()
	if err != nil {
		fmt.Println("failed", strings.ReplaceAll(err.Error(), "\n", ", "))
		return true
	}
	fmt.Println("open", deadline)
	_, _ = os.Stdin.Read(make([]byte, 1)) // until it is killed, or the parent is gone
	return true
}

func (t task) open() (deadline int64, err error) {
	cfg := Config{Owner: t.Owner, Prefer: EBPF, Hook: t.Hook}
	if t.Hook == HookNFTables {
		cfg.Prefer, cfg.Hook = NFTables, ""
	}
	f, _, err := New(cfg)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(f.Attach(t.Index), f.Guard(t.IP), f.Open(t.IP)); err != nil {
		return 0, err
	}
	deadline = BootNow() + t.Ahead.Nanoseconds()
	return deadline, f.SetDeadline(deadline)
}

// foundAgain: the dead child's fence stands as it was left.
func foundAgain(t task, deadline int64) error {
	found, err := Find(t.Owner)
	defer func() {
		for _, f := range found {
			_ = f.Close()
		}
	}()
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("%d fences found after the process was killed, not 1", len(found))
	}
	r, err := found[0].Read()
	if err != nil {
		return err
	}
	state, attached := r.Devices[t.Index]
	if !slices.Equal(r.Entries, []Entry{{t.IP, true}}) || r.Deadline != deadline || !attached || state != nil {
		return fmt.Errorf("after the process was killed the fence has %v until %d, device: %v, %w", r.Entries, r.Deadline, attached, errors.Join(state))
	}
	return nil
}

func removeProof(owner string) error {
	found, err := Find(owner)
	for _, f := range found {
		err = errors.Join(err, f.Uninstall())
	}
	return err
}
