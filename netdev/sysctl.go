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

// Change is a change of one sysctl of a device, as Want asks for it.
type Change struct {
	Device   string // interface name
	Key      string // e.g. "arp_ignore"
	Old, New int
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
