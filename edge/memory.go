package edge

import (
	"maps"
	"net/netip"
	"time"
)

const (
	announceNext = 1100 * time.Millisecond // outlasts a neighbour's lock time of 1 s (metallb#172)
	announceSlow = 5 * time.Second         // for switches and clients that forgot or missed it
	// announceEarly is how much too early a slow one goes along with another: in few bursts
	// instead of many, each of which costs a turn.
	announceEarly = announceSlow / 4

	// Tracked connections are forgotten when no address has left for flushQuiet, so that a hand-over of
	// many does not wait for it, and after flushLast in any case.
	flushQuiet = 100 * time.Millisecond
	flushLast  = 2 * time.Second

	retryFirst = 10 * time.Millisecond // after an operation that failed; twice as long each time
	retryLast  = time.Second
	// retryFence is retryLast of what the whole node waits for: one whose fence does not know
	// every HAVIP gives its session up after a second.
	retryFence = 200 * time.Millisecond
)

// Phase is how far an address has come on this host.
type Phase uint8

// The phases of an address.
const (
	Absent  Phase = iota // on no device of this host as a HAVIP, shut
	Rising               // on its way up: it may answer
	Serving              // read back: the address is there, the fence open, the neighbours told
	Leaving              // on its way down: it may still answer
)

func (p Phase) String() string { return [...]string{"absent", "rising", "serving", "leaving"}[p] }

// Memory is what the kernel cannot tell of what was done before. Only Loop changes it.
type Memory struct {
	records map[netip.Addr]*record
	// pace is when a device may send its next claim.
	pace map[int]Instant
	// devices has the devices that would not take the fence.
	devices map[int]*trouble
	// interferences has the devices on which the fence had to be put right lately.
	interferences map[int]*interference
	// settings has the settings that would not be changed, by device and key.
	settings map[string]*trouble
	routes   trouble
	lastGone Instant // when an address left last
}

// NewMemory begins without any.
func NewMemory() *Memory {
	return &Memory{records: map[netip.Addr]*record{}, pace: map[int]Instant{}, devices: map[int]*trouble{}, interferences: map[int]*interference{}, settings: map[string]*trouble{}}
}

// record is what is remembered of one address.
type record struct {
	phase     Phase
	announced bool // once at least since it came up
	second    bool // the next announcement is the second of a burst
	next      Instant
	lasting   Instant // when it was given the lifetime that it has, by this process; 0: never
	opened    bool    // the fence, in this life of it
	destroyed bool    // its sockets, since it is to leave
	unflushed bool    // tracked connections are to be forgotten
	gone      Instant // since when it is on no device
	broken    string  // what another program has damaged while it was served; "" is nothing
	stood     Stood   // how it came up
	trouble
}

// Stood says when an address came up on this host, step by step; 0 is not yet.
type Stood struct{ Address, Fence, Announced Instant }

// note takes a step that was done the first time since it is to be here.
func (t *Stood) note(kind OpKind, now Instant) {
	first := func(at *Instant) {
		if *at == 0 {
			*at = now
		}
	}
	switch kind {
	case OpAdd:
		first(&t.Address)
	case OpOpen:
		first(&t.Fence)
	case OpAnnounce:
		first(&t.Announced)
	}
}

// trouble is an operation that failed, and when it may be tried again.
type trouble struct {
	err   error
	tries int
	retry Instant
}

// failed notes another failure. It is tried again after last at most.
func (t *trouble) failed(now Instant, err error, last time.Duration) {
	t.err = err
	t.retry = now.Add(min(retryFirst<<min(t.tries, 10), last))
	t.tries++
}

func (t *trouble) waits(now Instant) bool {
	return t.err != nil && now < t.retry
}

// flushAt is when the tracked connections of an address that has left are to be forgotten: at once
// where nothing is served any more, because this process may be about to end.
func (m *Memory) flushAt(r *record, deadline, now Instant) Instant {
	if now >= deadline {
		return now
	}
	return min(m.lastGone.Add(flushQuiet), r.gone.Add(flushLast))
}

// of is the record of an address; nothing is remembered of others.
func (m *Memory) of(ip netip.Addr) record {
	if r := m.records[ip]; r != nil {
		return *r
	}
	return record{}
}

func (m *Memory) record(ip netip.Addr) *record {
	r := m.records[ip]
	if r == nil {
		r = &record{}
		m.records[ip] = r
	}
	return r
}

// forget drops what is known of devices and settings that are wanted no more, and pauses that are over.
func (m *Memory) forget(want *Desired, seen *Reading) {
	maps.DeleteFunc(m.devices, func(index int, _ *trouble) bool { return !want.Devices[index] })
	maps.DeleteFunc(m.pace, func(_ int, until Instant) bool { return until <= seen.At })
	if len(m.settings) == 0 {
		return
	}
	wrong := map[string]bool{}
	for _, s := range seen.Settings {
		for _, c := range s.Changes {
			wrong[c.Device+" "+c.Key] = true
		}
	}
	maps.DeleteFunc(m.settings, func(key string, _ *trouble) bool { return !wrong[key] })
}

// again begins a burst of announcements for everything that is here.
func (m *Memory) again() {
	for _, r := range m.records {
		r.next, r.second = 0, false
	}
}

// announced notes a claim.
func (m *Memory) announced(ip netip.Addr, index int, now Instant, every time.Duration) {
	r := m.record(ip)
	pause := announceSlow
	if r.second = !r.second; r.second {
		pause = announceNext
	}
	r.announced, r.next = true, now.Add(pause)
	if every > 0 {
		m.pace[index] = now.Add(every)
	} else {
		delete(m.pace, index)
	}
}
