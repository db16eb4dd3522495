package sim

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	words "havip-cluster/failover/wire"
)

// Stats counts what happened. A run in which nothing did proves nothing.
type Stats struct {
	Runs          int
	Virtual       time.Duration
	Faulty        time.Duration // of it, the time with faults
	Faults        int           // events that were carried out
	Elections     int           // terms with a leader that was up to date
	Opened        int           // sessions
	Closed        int           // sessions
	Expired       int           // of these, closed by endorsement
	HandOffs      int           // planned changes of owner, activated
	Activations   int
	Frames        int // announcements that the fence let pass
	FramesStopped int
	Silenced      int // activations that came too late, behind a shut fence
	Datagrams     [words.KindEnd]int
	Lost          int
	Doubled       int
	Late          int
	Forged        int // times that an intruder said all he could
	Replayed      int // renewals that came again by somebody on the path
	Shut          int // doors that a firewall shut
	Behind        int // sessions that were found to lag
	Streamed      int // trips of requests and answers of raft and of nodes
	Kills         int
	PowerCuts     int
	Freezes       int
	Pauses        int
	Echoes        int // looks at which a host that had just woken answered
	Restarts      int // processes that ended by themselves
	Snapshots     int
	SnapshotsSent int
	DiskFaults    int
	EdgeFailures  int
	// ProbesAnswered counts the looks at which a host would have answered a load balancer.
	ProbesAnswered int
	Foreign        int // addresses that another program put on a host
	Unfenced       int // fences that another program took away
	Joined         int
	Removed        int
	Acked          int // changes by operators
	Refused        int
	Unknown        int
	Applied        int // states that were checked
	Left           int // plays that left a goroutine waiting for a raft that had been shut down
	Settle         time.Duration
}

// renewals is the number of the kind in the datagrams.
const renewals = 1

// Add sums up; Settle is the longest one.
func (st *Stats) Add(more Stats) {
	longest := max(st.Settle, more.Settle)
	sum, v := reflect.ValueOf(st).Elem(), reflect.ValueOf(more)
	for i := range v.NumField() {
		f := sum.Field(i)
		if f.Kind() != reflect.Array {
			f.SetInt(f.Int() + v.Field(i).Int())
			continue
		}
		for j := range f.Len() {
			f.Index(j).SetInt(f.Index(j).Int() + v.Field(i).Index(j).Int())
		}
	}
	st.Settle = longest
}

// Idle names what did not happen although a run without it proves nothing.
func (st Stats) Idle() []string {
	var out []string
	for name, n := range map[string]int{
		"elections": st.Elections, "sessions": st.Opened, "activations": st.Activations,
		"frames": st.Frames, "renewals": st.Datagrams[renewals], "states": st.Applied,
	} {
		if n == 0 {
			out = append(out, name)
		}
	}
	return out
}

func (st Stats) String() string {
	var b strings.Builder
	v := reflect.ValueOf(st)
	for i := range v.NumField() {
		name := strings.ToLower(v.Type().Field(i).Name)
		switch x := v.Field(i).Interface().(type) {
		case [words.KindEnd]int:
			for kind, n := range kinds {
				fmt.Fprintf(&b, "%s=%d ", kind+"s", x[n])
			}
		case time.Duration:
			fmt.Fprintf(&b, "%s=%v ", name, x.Round(time.Millisecond))
		default:
			fmt.Fprintf(&b, "%s=%v ", name, x)
		}
	}
	return strings.TrimSpace(b.String())
}
