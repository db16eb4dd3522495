package browsertest

import (
	"fmt"
	"os"
	"testing"

	"havip-cluster/jepsen/netns"
)

func TestMain(m *testing.M) {
	code, done, err := netns.Isolate()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if done {
		os.Exit(code)
	}
	netns.RaisePriority() // the doors to the nodes are in this process
	os.Exit(m.Run())
}
