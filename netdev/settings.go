package netdev

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrReadOnly is returned when a sysctl cannot be written: /proc/sys is mounted read-only, as in most containers, or
// CAP_NET_ADMIN is missing. The error names the file.
var ErrReadOnly = errors.New("netdev: the setting cannot be written: /proc/sys is read-only, or CAP_NET_ADMIN is missing")

// settingKeys are the sysctls of net.ipv4.conf that decide which device answers for an address.
var settingKeys = [...]string{"arp_ignore", "arp_announce", "rp_filter"}

// settingAll is the name of the settings that hold for every device.
const settingAll = "all"

// Conf is one directory of net.ipv4.conf.
type Conf struct{ ARPIgnore, ARPAnnounce, RPFilter int }

// Setting is what net.ipv4.conf says of one device. The kernel uses the greater of the two values.
type Setting struct {
	Device   string
	Own, All Conf
}

// Fault says why no setting of the device can help, nil if none is in the way: ErrGlobalSysctl if "all" makes devices answer
// for other interfaces, or nothing at all.
func (s Setting) Fault() error {
	if s.All.ARPIgnore > arpIgnoreSubnet {
		return fmt.Errorf("%w: net.ipv4.conf.all.arp_ignore is %d, at most %d works", ErrGlobalSysctl, s.All.ARPIgnore, arpIgnoreSubnet)
	}
	return nil
}

// Mute says that this host answers no ARP request at all.
func (s Setting) Mute() bool { return s.All.ARPIgnore == arpIgnoreAll }

// Want says what has to be changed so that the device neither answers nor asks with addresses of other interfaces (ARP
// flux): arp_ignore 1 and arp_announce 2, where the effective value is not already as strict, and, if loose, rp_filter 2
// instead of a strict 1, for a device whose way back may be another one. It is pure, and empty when all is well.
//
// arp_ignore 2 is left alone, it is stricter; 3 and more are replaced by 1, because they answer for other interfaces or not
// at all. What "all" holds against it is Fault's matter.
func Want(s Setting, loose bool) []Change {
	var changes []Change
	set := func(key string, old, new int) { changes = append(changes, Change{s.Device, key, old, new}) }
	ignore := max(s.Own.ARPIgnore, s.All.ARPIgnore)
	if s.Fault() == nil && (ignore < arpIgnoreOwn || ignore > arpIgnoreSubnet) {
		set("arp_ignore", s.Own.ARPIgnore, arpIgnoreOwn)
	}
	if max(s.Own.ARPAnnounce, s.All.ARPAnnounce) < arpAnnounceBest {
		set("arp_announce", s.Own.ARPAnnounce, arpAnnounceBest)
	}
	if loose && max(s.Own.RPFilter, s.All.RPFilter) == pathStrict {
		set("rp_filter", s.Own.RPFilter, pathLoose)
	}
	return changes
}

// Apply writes the changes and returns an error for each: ErrReadOnly, ErrNoDevice.
func Apply(changes []Change) []error {
	errs := make([]error, len(changes))
	for i, c := range changes {
		if errs[i] = checkName(c.Device); errs[i] == nil {
			errs[i] = writeSysctl(sysctlPath("ipv4", c.Device, c.Key), c.New)
		}
	}
	return errs
}

// Settings reads the settings of devices again and again, with files that stay open: a read costs one system call for each,
// about 1 µs. The kernel tells nobody when they change, so they have to be asked. Not safe for concurrent use.
type Settings struct {
	confs map[string]*[len(settingKeys)]*os.File // by device, settingAll too
}

// NewSettings opens nothing yet. Read opens files in the network namespace of the thread that calls it.
func NewSettings() *Settings { return &Settings{map[string]*[len(settingKeys)]*os.File{}} }

// Close closes the files.
func (s *Settings) Close() { s.keep(nil) }

// keep closes the files of all other devices.
func (s *Settings) keep(devices []string) {
	for name := range s.confs {
		if !slices.Contains(devices, name) {
			s.drop(name)
		}
	}
}

func (s *Settings) drop(device string) {
	if files := s.confs[device]; files != nil {
		for _, f := range files {
			if f != nil {
				_ = f.Close() // only read
			}
		}
	}
	delete(s.confs, device)
}

// Read returns the settings of the devices, by name, in one pass: three files for each and three for all. A device that is
// gone is not in the result. An error is of one or more devices that are not in it either; that of "all" leaves nothing.
func (s *Settings) Read(devices []string) (map[string]Setting, error) {
	s.keep(append([]string{settingAll}, devices...))
	all, err := s.conf(settingAll)
	if err != nil {
		return nil, err
	}
	out := make(map[string]Setting, len(devices))
	var failed []error
	for _, device := range devices {
		if err := checkName(device); err != nil {
			failed = append(failed, err)
			continue
		}
		own, err := s.conf(device)
		if errors.Is(err, ErrNoDevice) {
			continue
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		out[device] = Setting{device, own, all}
	}
	return out, errors.Join(failed...)
}

// conf reads one directory. The files of a device that went, also by being renamed, say so when they are read (ENOENT); then
// there may be a new device of that name.
func (s *Settings) conf(device string) (Conf, error) {
	_, opened := s.confs[device]
	c, err := s.readConf(device)
	if err != nil {
		s.drop(device)
		if opened {
			if c, err = s.readConf(device); err != nil {
				s.drop(device)
			}
		}
	}
	return c, err
}

func (s *Settings) readConf(device string) (Conf, error) {
	files := s.confs[device]
	if files == nil {
		files = new([len(settingKeys)]*os.File)
		s.confs[device] = files
	}
	var values [len(settingKeys)]int
	for i, key := range settingKeys {
		path := sysctlPath("ipv4", device, key)
		if files[i] == nil {
			f, err := os.Open(path)
			if err != nil {
				return Conf{}, sysctlError(err)
			}
			files[i] = f
		}
		var buf [32]byte
		n, err := unix.Pread(int(files[i].Fd()), buf[:], 0)
		if err != nil {
			return Conf{}, sysctlError(&os.PathError{Op: "read", Path: path, Err: err})
		}
		if values[i], err = strconv.Atoi(strings.TrimSpace(string(buf[:n]))); err != nil {
			return Conf{}, fmt.Errorf("netdev: %s: %w", path, err)
		}
	}
	return Conf{values[0], values[1], values[2]}, nil
}
