package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"time"

	"havip-cluster/netdev"
)

const (
	// roundsMax bounds the rounds of one turn: guard, shut, remove, add, open is five.
	roundsMax = 8
	// readEvery is how old a reading may become: the kernel does not tell of everything that
	// others do, as when somebody takes a program off a device.
	readEvery = time.Second
	// readAgain is how long after one reading comes the next, however much others change.
	readAgain = 10 * time.Millisecond
	// sayAgain is how long the same fault is not logged again.
	sayAgain = time.Minute
	// saidMax bounds the faults that are remembered for that.
	saidMax = 1024
)

// ErrFenced is returned by Kernel.Do for an announcement that the fence did not let pass.
var ErrFenced = errors.New("edge: the fence let no announcement pass")

// Loop makes the kernel what it should be. It is the only writer to it. All methods are for
// one goroutine.
type Loop struct {
	log    *slog.Logger
	kernel Kernel
	clock  func() Instant

	mem   *Memory
	seen  *Reading // nil: nothing was read yet
	stale Parts    // what the next reading must read again, because this loop changed it
	told  Parts    // what others changed: read readAgain after the last reading
	// settled are the devices whose settings are in the reading.
	settled map[string]bool
	said    map[string]Instant
	again   bool
	putOff  bool    // something is left to the next turn, for which somebody waits
	awaited Instant // since when that is so; 0: it is not
}

// NewLoop makes a loop. It does nothing before the first Turn.
func NewLoop(log *slog.Logger, kernel Kernel, clock func() Instant) *Loop {
	return &Loop{log: log, kernel: kernel, clock: clock, mem: NewMemory(), stale: Everything, said: map[string]Instant{}}
}

// AnnounceAgain has everything that is served here announced once more.
func (l *Loop) AnnounceAgain() { l.again = true }

// Stood says how an address came up here.
func (l *Loop) Stood(ip netip.Addr) Stood { return l.mem.of(ip).stood }

// Phase is how far an address has come here.
func (l *Loop) Phase(ip netip.Addr) Phase { return l.mem.of(ip).phase }

// Turn brings the kernel closer to what is wanted, and tells what came to pass. It returns
// when nothing more is to be done now, or when the others should hear of what is.
func (l *Loop) Turn(want *Desired) Facts {
	facts := Facts{}
	l.begin(want)
	l.putOff = false
	more, planned := true, l.clock()
	for round := 0; round < roundsMax && more; round++ {
		if err := l.read(want); err != nil {
			l.sayOnce("read", "cannot read the kernel's state", "err", err)
			return Facts{Err: err, Next: l.clock().Add(retryFirst)}
		}
		judge(want, l.seen, l.mem, &facts)
		if round == 0 {
			l.tellForeign(want, &facts) // before they are removed
			l.tellSources(want, &facts)
		}
		planned = l.clock()
		ops := Plan(want, l.seen, l.mem, planned)
		if round > 0 && onlyFlush(ops) || l.putOff && l.allHaveTime(ops) {
			break // not worth the time of those who wait for what has left
		}
		more = len(ops) > 0
		l.carryOut(want, ops, &facts)
	}
	if !l.putOff {
		l.awaited = 0
	}
	facts.Guarded, facts.Unguarded = guarded(want, l.seen, l.mem)
	facts.Clean = clean(l.seen) && (l.stale|l.told)&(Addresses|Fence) == 0
	facts.Warnings = l.warnings(want)
	facts.sort()
	facts.Next = l.next(want, planned, more)
	return facts
}

// next is when the next turn has something to do, after one whose last plan was of the
// instant planned.
func (l *Loop) next(want *Desired, planned Instant, more bool) Instant {
	now := l.clock()
	switch {
	case more || l.stale != 0:
		return now
	case l.told != 0:
		return max(now, min(l.seen.At.Add(readAgain), Next(want, l.seen, l.mem, planned, now)))
	}
	return Next(want, l.seen, l.mem, planned, now)
}

// onlyFlush: tracked connections of addresses that have left are all there is to do.
func onlyFlush(ops []Op) bool { return len(ops) == 1 && ops[0].Kind == OpFlush }

// begin notes what has become other than before.
func (l *Loop) begin(want *Desired) {
	for ip, r := range l.mem.records {
		w := want.HAVIPs[ip]
		switch up := r.phase == Rising || r.phase == Serving; {
		case up && w.Index == 0:
			r.phase, r.trouble = Leaving, trouble{}
		case !up && w.Index != 0:
			*r = record{phase: Rising, unflushed: r.unflushed}
		}
	}
	if l.again {
		l.again = false
		l.mem.again()
	}
}

// read takes a new reading where the last one may be out of date.
func (l *Loop) read(want *Desired) error {
	now := l.clock()
	if !maps.Equal(l.settled, want.Settled) { // nothing is announced on settings that were not read
		l.settled = maps.Clone(want.Settled)
		l.stale |= Settings
	}
	parts := l.stale
	l.told |= l.kernel.Changed()
	switch {
	case l.seen == nil || now.Sub(l.seen.Whole) >= readEvery || now < l.seen.Whole:
		parts = Everything
	case now.Sub(l.seen.At) >= readAgain:
		parts |= l.told
	}
	if parts == 0 {
		return nil
	}
	seen, err := l.kernel.Read(want, parts, l.seen)
	if err != nil {
		l.stale |= parts
		return fmt.Errorf("edge: %w", err)
	}
	if parts == Everything {
		seen.Whole = seen.At
	}
	l.seen, l.stale, l.told = seen, l.stale&^parts, l.told&^parts
	return nil
}

// carryOut does the operations of one round, in their order. What fails for an address ends
// the round for it: silence comes before removal, an open fence before an announcement.
func (l *Loop) carryOut(want *Desired, ops []Op, facts *Facts) {
	failed := map[netip.Addr]bool{}
	for _, op := range ops {
		op.Items = without(op.Items, failed)
		if op.Len() == 0 {
			continue
		}
		for _, part := range l.portions(want, op) {
			if l.putsOff(want, part) {
				break
			}
			l.do(want, part, failed, facts)
		}
	}
}

// do carries out one operation, and notes for which addresses it failed.
func (l *Loop) do(want *Desired, op Op, failed map[netip.Addr]bool, facts *Facts) {
	began := l.clock()
	results := l.kernel.Do(op)
	now := l.clock()
	for i, it := range op.Items {
		err := results[i]
		if err != nil && it.IP.IsValid() {
			failed[it.IP] = true
		}
		if op.Kind == OpAdd || op.Kind == OpExtend {
			now = began // its lifetime counts from then on, or later
		}
		l.note(want, op.Kind, it, err, now, facts)
	}
	l.noteRest(want, op, results[len(op.Items):], now, facts)
}

func without(items []Item, failed map[netip.Addr]bool) []Item {
	if len(failed) == 0 {
		return items
	}
	out := items[:0:0]
	for _, it := range items {
		if !failed[it.IP] {
			out = append(out, it)
		}
	}
	return out
}

// note takes the result of an operation for one item into the picture and the memory.
func (l *Loop) note(want *Desired, kind OpKind, it Item, err error, now Instant, facts *Facts) {
	if err != nil {
		l.failed(want, kind, it, err, now, facts)
		return
	}
	switch kind {
	case OpAttach:
		delete(l.mem.devices, it.Index)
		l.attached(it.Index, now, facts)
		l.stale |= Fence
	case OpGuard, OpShut:
		l.seen.Fence[it.IP] = Shut
	case OpOpen:
		l.seen.Fence[it.IP] = Open
		r := l.mem.record(it.IP)
		r.opened = true
		r.stood.note(kind, now)
	case OpForget:
		delete(l.seen.Fence, it.IP)
	case OpExtend: // not worth another reading
		l.extended(it, now)
	case OpAdd, OpRemove:
		if at, ours := l.seen.on(it.IP, it.Index); kind == OpRemove && ours && l.mem.of(it.IP).phase == Absent {
			l.log.Info("removed a leftover address", "ip", it.IP, "device", at.Device)
		}
		l.stale |= Addresses
		if kind == OpAdd {
			r := l.mem.record(it.IP)
			r.lasting = now
			r.stood.note(kind, l.clock()) // now is when it began
		}
	case OpListen, OpUnlisten:
		l.stale |= Fence
	case OpDestroy:
		l.mem.record(it.IP).destroyed = true
	case OpFlush:
		l.mem.record(it.IP).unflushed = false
	case OpAnnounce:
		l.mem.announced(it.IP, it.Index, now, want.AnnounceEvery)
		l.mem.record(it.IP).stood.note(kind, now)
	}
	if r := l.mem.records[it.IP]; r != nil && r.err != nil {
		r.trouble = trouble{}
	}
}

// extended takes a new lifetime into the picture.
func (l *Loop) extended(it Item, now Instant) {
	l.mem.record(it.IP).lasting = now
	for i, a := range l.seen.Addresses[it.IP] {
		if a.Managed && a.Index == it.Index {
			l.seen.Addresses[it.IP][i].Until = now.Add(it.Lifetime)
		}
	}
}

// failed notes what an operation could not do, and when it may be tried again.
func (l *Loop) failed(want *Desired, kind OpKind, it Item, err error, now Instant, facts *Facts) {
	if kind == OpAttach {
		t := l.mem.devices[it.Index]
		if t == nil {
			t = &trouble{}
			l.mem.devices[it.Index] = t
		}
		t.failed(now, err, retryFence)
		l.sayOnce("attach "+err.Error(), "the fence does not stand on a device", "index", it.Index, "err", err)
		for ip, w := range want.HAVIPs {
			if w.Index == it.Index {
				facts.Faults = append(facts.Faults, Fault{ip, fmt.Sprintf("the fence does not stand on its device: %v", err)})
			}
		}
		return
	}
	l.stale |= Addresses | Fence
	switch kind {
	case OpDestroy, OpFlush: // that connections end is no condition for anything
		r := l.mem.record(it.IP)
		r.destroyed, r.unflushed = true, false
		l.log.Debug("could not end all connections over a HAVIP", "ip", it.IP, "err", err)
		return
	}
	last := retryLast
	if kind == OpGuard {
		last = retryFence
	}
	l.mem.record(it.IP).failed(now, err, last)
	if want.HAVIPs[it.IP].Index == 0 || kind == OpRemove || kind == OpShut {
		l.sayOnce(string(kind)+" "+err.Error(), "cannot make the kernel what it should be, trying again", "what", kind, "ip", it.IP, "err", err)
		return
	}
	if errors.Is(err, ErrFenced) && l.clock() >= want.Deadline {
		return // as it should be: the lease has just ended
	}
	facts.Faults = append(facts.Faults, Fault{it.IP, fmt.Sprintf("%s: %v", kind, err)})
}

// noteRest takes the results for routes and settings.
func (l *Loop) noteRest(want *Desired, op Op, results []error, now Instant, facts *Facts) {
	l.saySettings(op.Settle, results)
	for i, c := range op.Settle {
		key := c.Device + " " + c.Key
		l.stale |= Settings
		if results[i] == nil {
			delete(l.mem.settings, key)
			continue
		}
		t := l.mem.settings[key]
		if t == nil {
			t = &trouble{}
			l.mem.settings[key] = t
		}
		t.failed(now, results[i], retryLast)
	}
	if len(op.Routes) == 0 {
		return
	}
	l.stale |= Routing
	if err := errors.Join(results[len(op.Settle):]...); err != nil {
		l.mem.routes.failed(now, err, retryLast)
		for ip, w := range want.HAVIPs {
			if w.Steer != nil && w.Index != 0 {
				facts.Faults = append(facts.Faults, Fault{ip, fmt.Sprintf("its routes cannot be made: %v", err)})
			}
		}
		return
	}
	l.mem.routes = trouble{}
}

// fresh reports whether something has not been said for a while, and notes that it is.
func (l *Loop) fresh(what string) bool {
	now := l.clock()
	if at, before := l.said[what]; before && now.Sub(at) < sayAgain {
		return false
	}
	if len(l.said) >= saidMax {
		clear(l.said)
	}
	l.said[what] = now
	return true
}

// saySettings logs which settings were changed; of many in one line.
func (l *Loop) saySettings(changes []netdev.Change, results []error) {
	const message, each = "changed a network setting that a HAVIP needs", 6
	done := 0
	for i, c := range changes {
		if results[i] != nil {
			continue
		}
		level := slog.LevelInfo
		if done++; done > each {
			level = slog.LevelDebug
		}
		l.log.Log(context.Background(), level, message, "device", c.Device, "key", c.Key, "old", c.Old, "new", c.New)
	}
	if done > each {
		l.log.Info("changed more network settings that a HAVIP needs, of other devices", "number", done-each)
	}
}

func (l *Loop) sayOnce(key, message string, args ...any) {
	if l.fresh(key) {
		l.log.Error(message, args...)
	}
}
