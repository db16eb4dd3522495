package manifest

import (
	"context"
	"time"
)

// How much is done between two looks whether anybody still waits for it.
const (
	bytesBetweenChecks  = 4 << 10
	valuesBetweenChecks = 4 << 10
	// paceFrom is how many looks pass before a reading takes breaks: about 1 MB of YAML.
	paceFrom = 256
	breakMax = 3 * time.Millisecond
)

// pacer ends a reading with its context: nobody waits for what is read after that. And it lets a
// long one rest as long as it works: it shares its process with a lease, and what it takes of
// memory has to be collected meanwhile.
type pacer struct {
	ctx   context.Context
	rests bool
	looks int
	last  time.Time // of the end of the last break
}

func (p *pacer) look() error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	p.looks++
	if now := time.Now(); p.rests && p.looks > paceFrom {
		time.Sleep(min(now.Sub(p.last), breakMax))
	}
	p.last = time.Now()
	return nil
}
