package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"havip-cluster/membership/identity"
	"havip-cluster/netdev"
	"havip-cluster/netdev/fence"
)

// sweptLines bounds the lines about addresses that were removed.
const sweptLines = 10

// leftovers is what an agent that died may have left in the kernel.
type leftovers struct {
	log   *slog.Logger
	fence fence.Fence // nil: none
	addrs *netdev.Addresses
	shut  time.Time // when the fence was read back as shut
}

func newLeftovers(log *slog.Logger, f fence.Fence) (*leftovers, error) {
	addrs, err := netdev.NewAddresses()
	return &leftovers{log: log, fence: f, addrs: addrs}, err
}

func (l *leftovers) close() { l.addrs.Close() }

// remove silences the wire first and then takes everything off. It returns nil only after
// it has read back that nothing answers any more. What resists does not protect the rest.
func (l *leftovers) remove() error {
	errs := []error{shutFence(l.fence)}
	l.shut = time.Now()
	swept, err := l.addrs.Sweep()
	for _, h := range swept[:min(len(swept), sweptLines)] {
		l.log.Info("removed a leftover address", "ip", h.IP, "device", h.Device)
	}
	if more := len(swept) - sweptLines; more > 0 {
		l.log.Info("removed more leftover addresses", "count", more)
	}
	held, heldErr := l.addrs.Managed()
	errs = append(errs, err, heldErr)
	for _, h := range held {
		errs = append(errs, fmt.Errorf("%s is still on %s", h.IP, h.Device))
	}
	return errors.Join(append(errs, netdev.SweepRoutes())...)
}

// shutFence silences every HAVIP and reads that back.
func shutFence(f fence.Fence) error {
	if f == nil {
		return nil
	}
	errs := []error{f.SetDeadline(0)}
	entries, err := f.Guarded()
	errs = append(errs, err)
	var open []netip.Addr
	for _, e := range entries {
		if e.Open {
			open = append(open, e.IP)
		}
	}
	errs = append(errs, f.Shut(open...))
	entries, err = f.Guarded()
	errs = append(errs, err)
	for _, e := range entries {
		if e.Open {
			errs = append(errs, fmt.Errorf("the fence is still open for %s", e.IP))
		}
	}
	if d := f.Deadline(); d != 0 {
		errs = append(errs, fmt.Errorf("the fence still has a deadline: %d", d))
	}
	return errors.Join(errs...)
}

// FenceConfig says whose the fence of a node is. Without the node's id it finds only what
// a version before this one pinned below the data directory.
func FenceConfig(dir, nodeID string) fence.Config {
	cfg := fence.Config{Owner: nodeID, OldDir: filepath.Join(dir, "bpf")}
	if identity.CheckNodeID(nodeID) == nil {
		cfg.Table = "havip_" + nodeID[2:10]
	}
	return cfg
}

// CleanUp removes what a dead agent left, and nothing else. It needs the data directory,
// whose lock shows that no agent runs, but no valid identity.
func CleanUp(dir string, log *slog.Logger, noFence bool) error {
	unlock, err := identity.Lock(dir)
	if errors.Is(err, identity.ErrNoState) {
		return nothingHeld(err)
	}
	if err != nil {
		return err
	}
	defer unlock()
	return Sweep(dir, log, noFence)
}

// Sweep is CleanUp for who has the lock.
func Sweep(dir string, log *slog.Logger, noFence bool) (err error) {
	var f fence.Fence
	var nameless []fence.Fence
	if id := storedNodeID(dir); !noFence {
		if f, _, err = fence.New(FenceConfig(dir, id)); err != nil {
			f = nil
			if _, missing := os.Stat(filepath.Join(dir, "bpf")); errors.Is(missing, fs.ErrNotExist) {
				log.Warn("no fence is possible on this kernel, so none is left", "err", err)
				err = nil
			}
		}
		if identity.CheckNodeID(id) != nil { // then whose a fence is cannot be told, as with the addresses
			found, findErr := fence.Find("")
			nameless, err = found, errors.Join(err, findErr)
		}
	}
	left, openErr := newLeftovers(log, f)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	defer left.close()
	for _, other := range nameless {
		err = errors.Join(err, shutFence(other))
	}
	err = errors.Join(err, left.remove())
	if f != nil {
		nameless = append(nameless, f)
	}
	clean := err == nil
	for _, found := range nameless {
		if clean {
			err = errors.Join(err, found.Uninstall())
		} else { // an address may be left: the fence keeps it silent
			err = errors.Join(err, found.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("not everything could be removed: %w", err)
	}
	log.Info("nothing is left of an agent on this host")
	return nil
}

// nothingHeld is CleanUp without a data directory: whose the addresses are is unknown then,
// so none is touched.
func nothingHeld(missing error) error {
	addrs, err := netdev.NewAddresses()
	if err != nil {
		return err
	}
	defer addrs.Close()
	held, err := addrs.Managed()
	if err != nil || len(held) == 0 {
		return err
	}
	return fmt.Errorf("%w, but %s is on %s; name the data directory of its agent", missing, held[0].IP, held[0].Device)
}

// storedNodeID reads the node's id as far as the data directory can still be read.
func storedNodeID(dir string) string {
	if id, err := identity.Load(dir); err == nil {
		return id.NodeID
	}
	var file struct {
		Node string `json:"node"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "identity.json"))
	if err != nil || json.Unmarshal(text, &file) != nil {
		return ""
	}
	return file.Node
}
