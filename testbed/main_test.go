package testbed

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// labEnv makes the test binary build a lab and wait to be killed: see TestKilledProcessLeavesNothing.
const labEnv = "TESTBED_TEST_LAB"

func TestMain(m *testing.M) {
	if os.Getenv(labEnv) != "" {
		if err := liveUntilKilled(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// newLab builds a lab with a responder on every node. A machine on which that is impossible
// fails the test: a skipped test proves nothing.
func newLab(t *testing.T, options Options) *Lab {
	t.Helper()
	l, err := New(options)
	if err != nil {
		t.Fatalf("these tests need root, or root of a user namespace: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, node := range l.Nodes() {
		stop, err := node.Respond(DefaultPort)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
	}
	return l
}

// Patience for a question to be answered. The kernel repeats an ARP request after one second, so
// what was cut a moment ago may take that long to be reached; what is cut needs no such wait.
const (
	patienceOpen = 4 * time.Second
	patienceCut  = 200 * time.Millisecond
)

// reaches reports whether to answers any question from from within patience.
func reaches(t *testing.T, from *Host, to netip.Addr, patience time.Duration) bool {
	t.Helper()
	return try(t, func() (bool, error) { return from.Reaches(to, DefaultPort, patience) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func try[T any](t *testing.T, f func() (T, error)) T {
	t.Helper()
	v, err := f()
	must(t, err)
	return v
}
