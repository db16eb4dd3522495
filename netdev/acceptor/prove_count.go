package acceptor

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"

	"havip-cluster/internal/boottime"
)

// counted is an acknowledgement of a voter to this node, as it comes in at a device.
func (c *Counting) counted(port uint16, from *Channel, round uint64, sent int64, length time.Duration) []byte {
	return from.ethernet(port, from.tagged(1, from.Answer, 2, c.Session, round, uint64(sent), uint64(length), c.Config, 0x99))
}

// proveCount shows that the program counts as it should, on one of its own with a page and a deadline of its own: the
// fence may be in use.
func proveCount(port uint16) error {
	a := &Acceptor{}
	if err := a.load(port, nil, nil, true); err != nil {
		return fmt.Errorf("the count: %w", err)
	}
	defer a.Close()
	const length, round = time.Minute, 5
	peer := func(i byte) Channel {
		return Channel{Number: 0xa0 + uint64(i), Invitation: 0xb1, Answer: [2]uint64{3, uint64(i)}, Peer: netip.AddrFrom4([4]byte{192, 0, 2, i})}
	}
	by := Counting{Session: 7, Config: 0x1122334455667788, Majority: 2, Voters: []Channel{peer(1), peer(2)}}
	sent := boottime.Now()
	first, second := by.counted(port, &by.Voters[0], round, sent, length), by.counted(port, &by.Voters[1], round, sent, length)
	soon, reached := sent+int64(length)/2, sent+int64(length)
	begin := func() error { a.counter.Round(round, sent, length); return a.deadline(soon) }
	for _, step := range []struct {
		what string
		do   func() error
		in   []byte
		want int64
	}{
		{"before anything is counted", func() error { return a.deadline(soon) }, first, soon},
		{"of a round that was not begun", func() error { return a.counter.Count(by) }, first, soon},
		{"of one voter", begin, first, soon},
		{"of one voter again", nil, first, soon},
		{"of a majority", nil, second, reached},
		{"when the deadline is 0", func() error { return a.deadline(0) }, second, 0},
		{"when the deadline has passed", func() error { return a.deadline(sent) }, second, sent},
		{"after that was stopped", func() error { return errors.Join(a.deadline(soon), a.counter.Stop()) }, second, soon},
	} {
		if step.do != nil {
			if err := step.do(); err != nil {
				return fmt.Errorf("the count is not proved: an acknowledgement, %s: %w", step.what, err)
			}
		}
		verdict, _, err := a.Try(step.in)
		if err != nil {
			return fmt.Errorf("the count is not proved: an acknowledgement, %s: %w", step.what, err)
		}
		if verdict != VerdictPass {
			return fmt.Errorf("the count is not proved: an acknowledgement, %s: verdict %d", step.what, int32(verdict))
		}
		var is int64
		if err := a.objects.Deadlines.Lookup(uint32(0), &is); err != nil {
			return fmt.Errorf("the count is not proved: an acknowledgement, %s: %w", step.what, err)
		}
		if is != step.want {
			return fmt.Errorf("the count is not proved: an acknowledgement, %s: the deadline is %d, not %d", step.what, is, step.want)
		}
	}
	return nil
}

// deadline stores one.
func (a *Acceptor) deadline(t int64) error {
	return a.objects.Deadlines.Update(uint32(0), t, ebpf.UpdateAny)
}
