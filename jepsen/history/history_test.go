package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	want := &History{
		Series:  []Series{{Kind: Probing, From: "client-1", Target: "10.77.0.100", Every: 1e6, Count: 2}},
		Probes:  []Probe{{Target: "10.77.0.100", Seq: 1, Sent: 5, Answered: 9, Node: "node-1"}, {Target: "10.77.0.100", Seq: 2, Sent: 1e6}},
		Answers: []Answer{{HAVIP: "10.77.0.100", Poll: 7, Node: "node-2", Channel: ARP, Sent: 3, Received: 4}},
		Ops: []Op{
			{Client: "c", Verb: "move", Key: "web", Input: json.RawMessage(`{"to":"node-2"}`), Invoke: 1, Return: 2, Outcome: OK},
			{Client: "c", Verb: "move", Invoke: 3, Outcome: Unknown},
		},
		Faults:  []Fault{{Name: "kill", Target: "node-1", Begin: 10, End: 20}, {Name: "cut", Begin: 30, Outage: true}},
		Runs:    []Run{{Seed: 1 << 63, Nodes: []string{"node-1"}, HAVIPs: []string{"10.77.0.100"}, End: 9}},
		Kernel:  []Kernel{{Node: "node-1", HAVIP: "10.77.0.100", State: FenceOpen, First: 1, Last: 9, Widest: 4, Samples: 3, Deadline: 500}},
		Frames:  []Frames{{Node: "node-1", HAVIP: "10.77.0.100", First: 1, Last: 9, Count: 5}},
		Usage:   []Usage{{Node: "node-1", At: 7, PID: 4, RSS: 5, FDs: 6, Threads: 7, Goroutines: -1, Files: 8, Bytes: 9}},
		Marks:   []Mark{{Kind: MarkLeader, At: 3, Node: "node-1", Value: 1}, {Kind: MarkHeal, At: 4, Text: "kill"}},
		Changes: []Change{{HAVIP: "web", Epoch: 3, Kind: "crash", From: "node-1/eth0", To: "node-2/eth0", Steps: []string{"noticed", "committed"}, Nodes: []string{"node-3", "node-3"}}},
	}
	var file bytes.Buffer
	if err := Encode(&file, want); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(file.String(), "\n"); got != 15 {
		t.Errorf("%d lines, want one for each of 15 records", got)
	}
	got, err := Decode(&file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, line := range []string{
		`{}`, `nonsense`, `{"probe":{"seq":1}} {"probe":{"seq":2}}`, `{"surprise":{}}`,
		`{"probe":{"seq":1},"fault":{"name":"kill","begin":1}}`, `{"probe":{"seq":-1}}`,
	} {
		if _, err := Decode(strings.NewReader("\n" + line + "\n")); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v, want ErrFormat", line, err)
		} else if !strings.HasPrefix(err.Error(), "line 2:") {
			t.Errorf("%s: error %q does not name line 2", line, err)
		}
	}
}

func TestEmpty(t *testing.T) {
	h, err := Decode(strings.NewReader("\n\n"))
	if err != nil || len(h.Probes) != 0 {
		t.Errorf("got %v, %v", h, err)
	}
}
