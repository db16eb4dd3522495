package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"havip-cluster/failover/lease/shell"
	"havip-cluster/membership/identity"
	"havip-cluster/netdev"
)

// duplicateWait is how long another host has to answer for this node's own address. It delays
// each start by as much.
const duplicateWait = 150 * time.Millisecond

// answeredElsewhere asks the LAN whether another host has this node's own address, and says
// so in a sentence; "" is nobody. It is a warning and no more: some hosts and fabrics answer
// ARP for everybody. That another process runs as this node is proved by the lease alone
// (shell.ErrDuplicateNode).
//
// The MACs of the last start are kept beside the identity: when a station answers that has one of
// them, and this host has not, then this is a copy of that station's disk, and starting would put
// two processes of one identity into the cluster's log.
func answeredElsewhere(id *identity.Identity, log *slog.Logger) (string, error) {
	enis, _, err := netdev.Inventory(nil, nil)
	if err != nil {
		return "", err
	}
	before, err := rememberMACs(filepath.Join(id.Dir, macsFile), enis)
	if err != nil {
		log.Warn("the MACs of this host cannot be kept; a copy of its disk will be known by those that were", "err", err)
	}
	for _, e := range enis {
		for _, p := range e.Prefixes {
			if p.Addr() != id.Advertise || !e.Up {
				continue
			}
			answers, err := netdev.Probe(context.Background(), e.Index, id.Advertise, duplicateWait)
			if err != nil {
				return "", fmt.Errorf("ask whether another host has %s: %w", id.Advertise, err)
			}
			for _, mac := range answers {
				if !netdev.OwnMAC(mac) && slices.Contains(before, mac.String()) {
					return "", fmt.Errorf("%w: another host (MAC %s), on which this node ran before, answers for %s", shell.ErrDuplicateNode, mac, id.Advertise)
				}
				if !netdev.OwnMAC(mac) {
					return fmt.Sprintf("another host (MAC %s) answers for %s, the address of this node; if that is not the network's own doing, give one of them another address", mac, id.Advertise), nil
				}
			}
		}
	}
	return "", nil
}

// macsFile is kept in the data directory, and copied with it.
const macsFile = "macs.json"

// rememberMACs returns the MACs of the last start and writes those of this one. A file that is
// missing or damaged is no reason not to start; one that cannot be written stays what it was.
func rememberMACs(file string, enis []netdev.ENI) (before []string, err error) {
	if text, err := os.ReadFile(file); err == nil && json.Unmarshal(text, &before) != nil {
		before = nil
	}
	var now []string
	for _, e := range enis {
		now = append(now, e.MAC.String())
	}
	if len(before) > 0 && !slices.ContainsFunc(now, func(mac string) bool { return slices.Contains(before, mac) }) {
		return before, nil // on another host than before: not until it has proved to be the only one
	}
	if slices.Equal(before, now) {
		return before, nil
	}
	text, err := json.Marshal(now)
	if err == nil {
		err = identity.ReplaceFile(file, 0o600, text)
	}
	return before, err
}
