package membership

import (
	"context"
	"fmt"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

const loudEvery = time.Minute // between two lines about a certificate that has ended

// warnings is what was said already: the step by the certificate's id.
type warnings struct {
	said  map[string]int
	loud  time.Time // of the last line of the log
	again time.Time // no event before
}

// warn puts one event into the journal for each step that a certificate reaches: this node's own,
// and in the leader that of the CA.
func (k *KeyRotator) warn(ctx context.Context, now time.Time) {
	s := k.Node.State()
	if n, member := s.Nodes[k.Node.Self()]; !member || n.Removing {
		return
	}
	if k.warned.said == nil {
		k.warned.said = map[string]int{}
	}
	type subject struct {
		what, id string
		end      time.Time
		life     time.Duration
	}
	leaf := k.Identity.Leaf()
	list := []subject{{"the certificate of this node", identity.Fingerprint(leaf), leaf.NotAfter, identity.Life(leaf)}}
	if _, leads := k.Node.Leading(); leads {
		ca := k.Identity.Issuer()
		list = append(list, subject{"the cluster's CA", identity.Fingerprint(ca), ca.NotAfter, identity.Life(ca)})
	}
	current := map[string]bool{}
	for _, x := range list {
		current[x.id] = true
		step := identity.WarnStep(x.end.Sub(now), x.life)
		if step == identity.WarnEnded && now.Sub(k.warned.loud) >= loudEvery {
			k.warned.loud = now
			k.Log.Error("keys: "+x.what+" has ended; members accept it for 90 days, and it is renewed as soon as there is a leader", "ended", x.end.Format(time.RFC3339), "now", now.UTC().Format(time.RFC3339))
		}
		if step == 0 || step <= k.warned.said[x.id] || now.Before(k.warned.again) {
			continue
		}
		text := fmt.Sprintf("%s ends at %s, in %s; it should have been renewed by now: `keys status`", x.what, x.end.UTC().Format(time.RFC3339), x.end.Sub(now).Round(time.Second))
		if step == identity.WarnEnded {
			text = fmt.Sprintf("%s ended at %s, this host's clock says %s", x.what, x.end.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		}
		call, cancel := context.WithTimeout(ctx, keysCallLimit)
		err := k.submit(call, fsm.ReportEvent{Node: k.Node.Self(), Kind: "keys", Text: text})
		cancel()
		if err == nil {
			k.warned.said[x.id] = step
		} else {
			k.warned.again = now.Add(keysCallLimit)
		}
	}
	for id := range k.warned.said {
		if !current[id] {
			delete(k.warned.said, id)
		}
	}
}
