package sim

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Schedule is one run: the cluster, and everything that happens to it.
type Schedule struct {
	Seed     uint64
	Roles    []string // of hosts a, b, c, ...: voter, witness or agent
	Profile  string   // fast, lan or wan
	Lease    time.Duration
	Delay    time.Duration // of one trip, at least; at most it is twice that
	ENIs     int           // per host
	HAVIPs   int
	Duration time.Duration // with faults; the demand for service comes after it
	Grow     bool          // the faults begin before all voters vote
	Old      bool          // the hosts run the program before this one (command level 1) until "upgrade"
	Rates    []int         // of the hosts' clocks, parts per million off true time
	Events   []Event
}

// Event is one thing that happens.
type Event struct {
	At   time.Duration
	Op   string
	Args []string
}

func (e Event) String() string {
	return strings.TrimSpace(fmt.Sprintf("%v %s %s", e.At, e.Op, strings.Join(e.Args, " ")))
}

// Limits of a schedule.
const (
	hostsMax  = 7
	eventsMax = 100_000
)

// String gives the text that Parse reads.
func (s Schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d\n", s.Seed)
	fmt.Fprintf(&b, "cluster roles=%s profile=%s lease=%v delay=%v enis=%d havips=%d duration=%v\n",
		strings.Join(s.Roles, ","), s.Profile, s.Lease, s.Delay, s.ENIs, s.HAVIPs, s.Duration)
	rates := make([]string, len(s.Rates))
	for i, r := range s.Rates {
		rates[i] = strconv.Itoa(r)
	}
	if s.Grow {
		fmt.Fprintln(&b, "cluster grow=true")
	}
	if s.Old {
		fmt.Fprintln(&b, "cluster old=true")
	}
	fmt.Fprintf(&b, "clocks ppm=%s\n", strings.Join(rates, ","))
	for _, e := range s.Events {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}

// Parse reads a schedule. Empty lines and those that begin with # say nothing.
func Parse(r io.Reader) (Schedule, error) {
	var s Schedule
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(text)
		if len(f) == 0 {
			continue
		}
		if err := s.line(f); err != nil {
			return s, fmt.Errorf("sim: line %d %q: %w", n, lines.Text(), err)
		}
	}
	if err := lines.Err(); err != nil {
		return s, fmt.Errorf("sim: %w", err)
	}
	return s, s.check()
}

func (s *Schedule) line(f []string) (err error) {
	switch f[0] {
	case "seed":
		if len(f) != 2 {
			return fmt.Errorf("want one number")
		}
		s.Seed, err = strconv.ParseUint(f[1], 10, 64)
		return err
	case "cluster", "clocks":
		for _, kv := range f[1:] {
			k, v, _ := strings.Cut(kv, "=")
			if err := s.set(k, v); err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
		}
		return nil
	}
	at, err := time.ParseDuration(f[0])
	if err != nil || len(f) < 2 {
		return fmt.Errorf("want seed, cluster, clocks, or a time and an operation")
	}
	if len(s.Events) >= eventsMax {
		return fmt.Errorf("at most %d events", eventsMax)
	}
	s.Events = append(s.Events, Event{at, f[1], slices.Clone(f[2:])})
	return nil
}

func (s *Schedule) set(k, v string) (err error) {
	switch k {
	case "roles":
		s.Roles = strings.Split(v, ",")
	case "profile":
		s.Profile = v
	case "lease":
		s.Lease, err = time.ParseDuration(v)
	case "delay":
		s.Delay, err = time.ParseDuration(v)
	case "duration":
		s.Duration, err = time.ParseDuration(v)
	case "enis":
		s.ENIs, err = strconv.Atoi(v)
	case "havips":
		s.HAVIPs, err = strconv.Atoi(v)
	case "grow":
		s.Grow, err = strconv.ParseBool(v)
	case "old":
		s.Old, err = strconv.ParseBool(v)
	case "ppm":
		s.Rates = nil
		for t := range strings.SplitSeq(v, ",") {
			n, bad := strconv.Atoi(t)
			if bad != nil {
				return bad
			}
			s.Rates = append(s.Rates, n)
		}
	default:
		return fmt.Errorf("unknown setting")
	}
	return err
}

func (s *Schedule) check() error {
	switch {
	case len(s.Roles) < 1 || len(s.Roles) > hostsMax:
		return fmt.Errorf("sim: %d hosts, 1 to %d are possible", len(s.Roles), hostsMax)
	case len(s.Rates) != len(s.Roles):
		return fmt.Errorf("sim: %d clocks for %d hosts", len(s.Rates), len(s.Roles))
	case profiles[s.Profile].heartbeat == 0:
		return fmt.Errorf("sim: profile %q: fast, lan or wan", s.Profile)
	case s.Lease <= 0 || s.Delay <= 0 || s.ENIs < 1 || s.ENIs > 2 || s.HAVIPs < 1 || s.HAVIPs > 50 || s.Duration <= 0:
		return fmt.Errorf("sim: lease, delay, duration, 1 or 2 enis and 1 to 50 havips are needed")
	case s.Roles[0] == "agent":
		return fmt.Errorf("sim: host a begins the cluster, so it votes")
	}
	for _, e := range s.Events {
		if err := checkEvent(e, len(s.Roles)); err != nil {
			return fmt.Errorf("sim: %q: %w", e, err)
		}
	}
	return nil
}

// profile is the timers of a schedule. Those with which membership/identity begins fast and lan are shorter by now; the seeds and
// the schedules that are kept go with these.
type profile struct {
	lease, heartbeat, leaderLease, delay time.Duration
}

const ms = time.Millisecond

var profiles = map[string]profile{
	"fast": {150 * ms, 100 * ms, 75 * ms, 50 * time.Microsecond},
	"lan":  {500 * ms, 250 * ms, 200 * ms, 150 * time.Microsecond},
	"wan":  {3 * time.Second, 1500 * ms, time.Second, 8 * ms},
}
