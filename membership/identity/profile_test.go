package identity

import (
	"testing"
	"time"
)

func TestTimersFor(t *testing.T) {
	for _, row := range []struct {
		profile Profile
		lease   time.Duration
		want    Timers
	}{
		{ProfileFast, 0, Timers{20 * ms, 4 * ms, 100 * ms, 100 * ms, 80 * ms}},
		{ProfileLAN, 0, Timers{150 * ms, 30 * ms, 240 * ms, 240 * ms, 192 * ms}},
		{ProfileLAN, 500 * ms, Timers{500 * ms, 100 * ms, 250 * ms, 250 * ms, 200 * ms}},
		{ProfileWAN, 0, Timers{3000 * ms, 600 * ms, 1500 * ms, 1500 * ms, 1000 * ms}},
		{ProfileFast, 150 * ms, Timers{150 * ms, 30 * ms, 100 * ms, 100 * ms, 80 * ms}},
		{ProfileFast, 30 * ms, Timers{30 * ms, 6 * ms, 50 * ms, 50 * ms, 40 * ms}},
		{ProfileLAN, 50 * ms, Timers{50 * ms, 10 * ms, 100 * ms, 100 * ms, 80 * ms}},
		{ProfileLAN, 150 * ms, Timers{150 * ms, 30 * ms, 240 * ms, 240 * ms, 192 * ms}},
		{ProfileLAN, 300 * ms, Timers{300 * ms, 60 * ms, 250 * ms, 250 * ms, 200 * ms}},
		{ProfileWAN, 1000 * ms, Timers{1000 * ms, 200 * ms, 500 * ms, 500 * ms, 400 * ms}},
		{ProfileLAN, 2000 * ms, Timers{2000 * ms, 400 * ms, 1000 * ms, 1000 * ms, 800 * ms}},
		{ProfileWAN, 60 * time.Second, Timers{60 * time.Second, 12 * time.Second, 5000 * ms, 5000 * ms, 4000 * ms}},
	} {
		if got := must[Timers](t)(TimersFor(row.profile, row.lease)); got != row.want {
			t.Errorf("%s %v: got %+v, want %+v", row.profile, row.lease, got, row.want)
		}
	}
}

func TestTimersForRefuses(t *testing.T) {
	for _, row := range []struct {
		profile  Profile
		lease    time.Duration
		fragment string
	}{
		{"", 0, `profile "": choose fast, lan or wan`},
		{"LAN", 0, `profile "LAN": choose`},
		{ProfileLAN, -ms, "lease -1ms is shorter than 10ms"},
		{ProfileFast, 10*ms - 1, "is shorter than 10ms"},
		{ProfileWAN, 499 * ms, "lease 499ms is too short for profile wan (several zones), which needs 500ms"},
		{ProfileWAN, 100 * ms, "too short for profile wan"},
		{ProfileFast, 60*time.Second + 1, "is longer than 1m0s"},
	} {
		_, err := TimersFor(row.profile, row.lease)
		wantError(t, err, ErrInvalid, row.fragment)
	}
}

// Whatever lease is accepted, the invariant of Timers holds, and hashicorp/raft's own
// rules for its configuration with it.
func TestTimersInvariant(t *testing.T) {
	accepted := 0
	for _, p := range profiles {
		if got := must[Profile](t)(ParseProfile(string(p.name))); got != p.name {
			t.Fatalf("profile %s became %s", p.name, got)
		}
		for lease := time.Duration(0); lease <= leaseMax; lease += 7 * ms {
			timers, err := TimersFor(p.name, lease)
			if err != nil {
				continue
			}
			accepted++
			if timers.Renew <= 0 || timers.Renew >= timers.Lease || timers.RaftLeaderLease < 5*ms ||
				timers.RaftLeaderLease > timers.RaftHeartbeat || timers.RaftHeartbeat > timers.RaftElection {
				t.Fatalf("%s %v: %+v", p.name, lease, timers)
			}
		}
	}
	if accepted < 20000 {
		t.Fatalf("only %d leases were accepted", accepted)
	}
}
