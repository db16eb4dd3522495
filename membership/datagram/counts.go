package datagram

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
)

// cause is why a datagram was dropped; "" if it was not. The texts are stable: they are the
// label of a metric.
type cause string

const (
	causeSize    cause = "size"        // no frame has so many bytes
	causeVersion cause = "version"     // an unknown version, protection or type
	causeForeign cause = "receiver"    // it is for another node
	causeSender  cause = "sender"      // no member with a key has this name
	causeAddress cause = "address"     // it does not come from where that member is
	causeKey     cause = "key"         // that member, or this node, has no such key
	causeTag     cause = "tag"         // it is not authentic
	causeChannel cause = "channel"     // of an earlier life of the sender or of this node
	causeReplay  cause = "replay"      // it came before, or too late
	causeMany    cause = "too many"    // hellos
	causeSend    cause = "send failed" // the kernel did not take it
)

// causes are all of them, in the order in which they are told.
var causes = [...]cause{causeSize, causeVersion, causeForeign, causeSender, causeAddress, causeKey, causeTag, causeChannel, causeReplay, causeMany, causeSend}

// counts counts what is dropped. It is written for each datagram of a flood, so it neither
// allocates nor logs; told does, at most once a minute.
type counts struct {
	n [len(causes)]atomic.Uint64

	mu   sync.Mutex
	told [len(causes)]uint64
}

func (c *counts) add(why cause) {
	for i := range causes {
		if causes[i] == why {
			c.n[i].Add(1)
			return
		}
	}
}

// Dropped returns how many datagrams were dropped so far, by cause.
func (c *counts) dropped() map[string]uint64 {
	out := map[string]uint64{}
	for i, why := range causes {
		if n := c.n[i].Load(); n > 0 {
			out[string(why)] = n
		}
	}
	return out
}

// dropsUsual is how many datagrams may be dropped between two lines without a warning: some are at each start.
const dropsUsual = 100

// tell logs what was dropped since the last line, all causes in one; nothing if nothing was.
func (c *counts) tell(log *slog.Logger) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var args []any
	all, level := uint64(0), slog.LevelDebug
	for i, why := range causes {
		n := c.n[i].Load()
		if more := n - c.told[i]; more > 0 {
			args = append(args, slog.Uint64(string(why), more))
			all += more
		}
		c.told[i] = n
	}
	if all > dropsUsual {
		level = slog.LevelWarn
	}
	if len(args) > 0 {
		log.Log(context.Background(), level, "messages of the lease: datagrams were dropped", args...)
	}
}
