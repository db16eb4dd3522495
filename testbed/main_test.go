package testbed

import (
	"net/netip"
	"testing"
	"time"

	"havip-cluster/testbed/labtest"
)

// labEnv makes the test binary build a lab and wait to be killed: see TestKilledProcessLeavesNothing.
const labEnv = "TESTBED_TEST_LAB"

func TestMain(m *testing.M) {
	labtest.Main(m, labEnv, func(string) error { return liveUntilKilled() })
}

// newLab builds a lab with a responder on every node.
func newLab(t *testing.T, options Options) *Lab {
	t.Helper()
	l, err := New(options)
	return labtest.Ready(t, l, err, DefaultPort)
}

// reaches reports whether to answers any question from from within patience.
func reaches(t *testing.T, from *Host, to netip.Addr, patience time.Duration) bool {
	t.Helper()
	return labtest.Try(t, func() (bool, error) { return from.Reaches(to, DefaultPort, patience) })
}
