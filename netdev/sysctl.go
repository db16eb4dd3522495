package netdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Effective values of net.ipv4.conf are the maximum of "all" and the device, see the kernel's networking/ip-sysctl.rst.
const (
	arpIgnoreOwn    = 1 // answer only for addresses of the interface that was asked
	arpIgnoreSubnet = 2 // and only to senders in the same subnet
	arpAnnounceBest = 2 // never another interface's address as sender of a question
	arpIgnoreAll    = 8 // answer nothing
	pathStrict      = 1 // rp_filter: drop what would not be answered through the same device
	pathLoose       = 2 // drop only what comes from nowhere
)

// ErrGlobalSysctl is returned when net.ipv4.conf.all overrides what a device needs; no setting of the device can help.
var ErrGlobalSysctl = errors.New("netdev: net.ipv4.conf.all overrides the device")

// Change is a sysctl that EnsureARP or EnsureLoose changed: what Restore needs.
type Change struct {
	Device   string // interface name
	Key      string // e.g. "arp_ignore"
	Old, New int
}

// EnsureARP keeps the device from answering and asking with addresses of other interfaces (ARP flux): arp_ignore 1 and
// arp_announce 2, where the effective value is not already as strict. It returns what it changed, next to an error too.
//
// arp_ignore 2 is left alone, it is stricter; 3 and more are replaced by 1, because they answer for other interfaces or not
// at all. Errors: ErrNoDevice; ErrGlobalSysctl if "all" holds such a value.
func EnsureARP(device string) ([]Change, error) {
	var changes []Change
	for _, want := range []struct {
		key      string
		min, max int
	}{{"arp_ignore", arpIgnoreOwn, arpIgnoreSubnet}, {"arp_announce", arpAnnounceBest, arpAnnounceBest}} {
		global, own, err := readConf(device, want.key)
		if err != nil {
			return changes, err
		}
		if global > want.max {
			return changes, fmt.Errorf("%w: %s is %d, at most %d works", ErrGlobalSysctl, want.key, global, want.max)
		}
		if effective := max(global, own); effective >= want.min && effective <= want.max {
			continue
		}
		if err := writeSysctl(sysctlPath("ipv4", device, want.key), want.min); err != nil {
			return changes, err
		}
		changes = append(changes, Change{device, want.key, own, want.min})
	}
	return changes, nil
}

// Restore puts the old values back, the last change first. A value that somebody changed meanwhile stays, and so does a
// device that is gone; neither is an error.
func Restore(changes []Change) error {
	var failed []error
	for i := len(changes) - 1; i >= 0; i-- {
		c := changes[i]
		if err := checkName(c.Device); err != nil {
			failed = append(failed, err)
			continue
		}
		path := sysctlPath("ipv4", c.Device, c.Key)
		now, err := readSysctl(path)
		if err == nil && now == c.New {
			err = writeSysctl(path, c.Old)
		}
		failed = append(failed, tolerate(err, ErrNoDevice))
	}
	return errors.Join(failed...)
}

// ReversePath returns the effective rp_filter of the device: 0 off, 1 strict, 2 loose (RFC 3704 sections 2.2 and 2.4). On a
// secondary ENI strict drops packets for a HAVIP unless Steer made the way back the same. ErrNoDevice.
func ReversePath(device string) (int, error) {
	global, own, err := readConf(device, "rp_filter")
	return max(global, own), err
}

// EnsureLoose replaces a strict rp_filter of the device by a loose one, for an ENI whose way back may be another one. It
// returns what it changed. ErrNoDevice.
func EnsureLoose(device string) ([]Change, error) {
	global, own, err := readConf(device, "rp_filter")
	if err != nil || max(global, own) != pathStrict {
		return nil, err
	}
	if err := writeSysctl(sysctlPath("ipv4", device, "rp_filter"), pathLoose); err != nil {
		return nil, err
	}
	return []Change{{device, "rp_filter", own, pathLoose}}, nil
}

// Mute reports whether net.ipv4.conf.all makes every device answer no ARP request at all; no setting of a device helps.
func Mute() (bool, error) {
	global, err := readSysctl(sysctlPath("ipv4", "all", "arp_ignore"))
	return global == arpIgnoreAll, err
}

// readConf reads net.ipv4.conf.{all,device}.key.
func readConf(device, key string) (global, own int, err error) {
	if err = checkName(device); err != nil {
		return 0, 0, err
	}
	if global, err = readSysctl(sysctlPath("ipv4", "all", key)); err != nil {
		return 0, 0, err
	}
	own, err = readSysctl(sysctlPath("ipv4", device, key))
	return global, own, err
}

// sysctlPath is a file and no dotted name, because device names may contain dots (VLANs: eth0.100).
func sysctlPath(family, device, key string) string {
	return filepath.Join("/proc/sys/net", family, "conf", device, key)
}

// checkName refuses what cannot be a device (the kernel's dev_valid_name) or names the settings of no or every device.
func checkName(device string) error {
	switch {
	case device == "", device == ".", device == "..", device == "all", device == "default", strings.ContainsAny(device, "/:"):
		return fmt.Errorf("%w: %q", ErrNoDevice, device)
	}
	return nil
}

func readSysctl(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, sysctlError(err)
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("netdev: %s: %w", path, err)
	}
	return v, nil
}

func writeSysctl(path string, value int) error {
	err := os.WriteFile(path, []byte(strconv.Itoa(value)), 0)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EROFS), errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return sysctlError(err)
}

// sysctlError names the missing device: the files of a device come and go with it.
func sysctlError(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNoDevice, err)
	}
	return fmt.Errorf("netdev: sysctl: %w", err)
}
