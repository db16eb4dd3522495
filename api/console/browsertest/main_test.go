package browsertest

import (
	"flag"
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
	code = m.Run()
	if code == 0 && flag.Lookup("test.run").Value.String() == "" {
		for _, text := range pressed.faults() {
			fmt.Fprintln(os.Stderr, text)
			code = 1
		}
	}
	os.Exit(code)
}
