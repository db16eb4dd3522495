package netns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Sandbox is what a systemd unit takes from its processes (systemd.exec(5)), as far as it can be
// rebuilt without systemd.
type Sandbox struct {
	Capabilities    []string // CapabilityBoundingSet: those that stay
	NoNewPrivileges bool
	ReadOnly        bool     // ProtectSystem=strict
	PrivateTmp      bool     // an empty /tmp and /var/tmp
	ProtectHome     bool     // no /home, /root, /run/user
	PrivateDevices  bool     // a /dev with null, zero, full, random, urandom, tty
	ControlGroups   bool     // ProtectControlGroups: /sys/fs/cgroup is read-only
	Tunables        bool     // ProtectKernelTunables: /proc/sys and /sys are read-only
	Families        []string // RestrictAddressFamilies: those that stay; nil: all
	Syscalls        []string // SystemCallFilter, expanded; nil: all
	Errno           string   // SystemCallErrorNumber; "": a forbidden call kills
	Namespaces      []string // RestrictNamespaces: kinds that may still be made
	NoNamespaces    bool     // RestrictNamespaces was given
	NoWX            bool     // MemoryDenyWriteExecute
	Personality     bool     // LockPersonality
}

// notSandbox are settings that take nothing away, or nothing that could be rebuilt or would make a
// difference in a lab; each with the reason. Any other setting that is not known is an error, so
// that the unit and its rebuilt form cannot drift apart.
var notSandbox = map[string]string{
	"Type": "", "NotifyAccess": "", "ExecStart": "", "ExecReload": "", "ExecStopPost": "", "Restart": "", "RestartSec": "", "TimeoutStopSec": "", "KillMode": "", "OOMPolicy": "",
	"LimitMEMLOCK": "the lab's is as large", "LimitNOFILE": "no scenario comes near it", "LimitRTPRIO": "root with CAP_SYS_NICE needs none", "OOMScoreAdj": "", "OOMScoreAdjust": "", "Nice": "the agent sets it itself",
	"StateDirectory": "the lab's data directory takes its place", "StateDirectoryMode": "", "UMask": "the agent names modes itself",
	"ProtectKernelModules": "CAP_SYS_MODULE and @module are left out already", "ProtectKernelLogs": "CAP_SYSLOG and @syslog are left out already",
	"ProtectClock": "CAP_SYS_TIME and @clock are left out already", "ProtectHostname": "CAP_SYS_ADMIN apart, no program of ours asks for it",
	"RestrictSUIDSGID": "no file of ours gets such a bit", "RemoveIPC": "root has none removed", "SystemCallArchitectures": "the filter refuses others anyway",
	"ProtectProc": "needs a user other than root to hide anything", "KeyringMode": "no keyring is used", "DevicePolicy": "control groups are systemd's",
	"Delegate": "control groups are systemd's",
}

// ReadUnit reads the [Service] section of a unit file. It needs systemd-analyze(1) for the groups
// of SystemCallFilter.
func ReadUnit(path string) (*Sandbox, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("netns: unit: %w", err)
	}
	s, section := &Sandbox{}, ""
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section != "[Service]" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := s.set(strings.TrimSpace(key), strings.Fields(value)); err != nil {
			return nil, fmt.Errorf("netns: unit %s: %s: %w", path, line, err)
		}
	}
	if len(s.Capabilities) == 0 {
		return nil, fmt.Errorf("netns: unit %s has no CapabilityBoundingSet", path)
	}
	return s, nil
}

func (s *Sandbox) set(key string, words []string) (err error) {
	value := strings.Join(words, " ")
	switches := map[string]*bool{
		"NoNewPrivileges": &s.NoNewPrivileges, "PrivateTmp": &s.PrivateTmp, "ProtectHome": &s.ProtectHome, "PrivateDevices": &s.PrivateDevices,
		"ProtectControlGroups": &s.ControlGroups, "ProtectKernelTunables": &s.Tunables, "MemoryDenyWriteExecute": &s.NoWX, "LockPersonality": &s.Personality,
	}
	if on, ok := switches[key]; ok {
		if value != "yes" && value != "no" {
			return fmt.Errorf("%q is neither yes nor no", value)
		}
		*on = value == "yes"
		return nil
	}
	switch key {
	case "CapabilityBoundingSet":
		s.Capabilities = append(s.Capabilities, words...)
	case "ProtectSystem":
		if value != "strict" {
			return fmt.Errorf("%q is not rebuilt, strict is", value)
		}
		s.ReadOnly = true
	case "RestrictAddressFamilies":
		s.Families = append(s.Families, words...)
	case "RestrictNamespaces":
		if s.NoNamespaces = value != "no"; value != "yes" && value != "no" {
			s.Namespaces = words
		}
	case "SystemCallErrorNumber":
		s.Errno = value
	case "SystemCallFilter":
		s.Syscalls, err = filterSyscalls(s.Syscalls, words)
	default:
		if _, ok := notSandbox[key]; !ok {
			err = fmt.Errorf("this setting is not known here: rebuild it, or say why not")
		}
	}
	return err
}

// filterSyscalls applies one line of SystemCallFilter to the calls that are allowed so far.
func filterSyscalls(allowed, words []string) ([]string, error) {
	remove := len(words) > 0 && strings.HasPrefix(words[0], "~")
	if remove {
		words = append([]string{words[0][1:]}, words[1:]...)
	}
	groups, err := syscallGroups()
	if err != nil {
		return nil, err
	}
	var calls []string
	for _, w := range words {
		if calls, err = expand(calls, groups, w, 0); err != nil {
			return nil, err
		}
	}
	if remove {
		return slices.DeleteFunc(allowed, func(c string) bool { return slices.Contains(calls, c) }), nil
	}
	if len(allowed) == 0 {
		if calls, err = expand(calls, groups, "@default", 0); err != nil { // always there in an allow list
			return nil, err
		}
	}
	calls = append(calls, allowed...)
	slices.Sort(calls)
	return slices.Compact(calls), nil
}

const groupDepthMax = 4 // groups within groups

func expand(calls []string, groups map[string][]string, word string, depth int) ([]string, error) {
	if !strings.HasPrefix(word, "@") {
		return append(calls, word), nil
	}
	members, ok := groups[word]
	if !ok || depth > groupDepthMax {
		return nil, fmt.Errorf("group %s of system calls is not known", word)
	}
	var err error
	for _, m := range members {
		if calls, err = expand(calls, groups, m, depth+1); err != nil {
			return nil, err
		}
	}
	return calls, nil
}

// syscallGroups asks systemd-analyze for all groups.
func syscallGroups() (map[string][]string, error) {
	out, err := exec.Command("systemd-analyze", "syscall-filter", "--no-pager").Output()
	if err != nil {
		return nil, fmt.Errorf("systemd-analyze (package systemd): %w", err)
	}
	groups, name := map[string][]string{}, ""
	for line := range bytes.Lines(out) {
		word := strings.TrimSpace(string(line))
		switch {
		case word == "" || strings.HasPrefix(word, "#"):
		case strings.HasPrefix(word, "@") && line[0] == '@':
			name = word
		case name != "" && (line[0] == ' ' || line[0] == '\t'):
			groups[name] = append(groups[name], word)
		}
	}
	return groups, nil
}
