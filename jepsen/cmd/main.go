// Command jepsen is the evidence from outside the tests: it leads clusters through faults (run), beside
// Keepalived (bench), in virtual time (search), and with bugs planted (mutants). make calls it.
package main

import (
	"fmt"
	"os"

	"havip-cluster/jepsen/bench"
	"havip-cluster/jepsen/mutants"
	"havip-cluster/jepsen/sim/search"
)

var commands = map[string]func(args []string) (code int){
	"run":     runCommand,
	"bench":   bench.Command,
	"search":  search.Command,
	"mutants": mutants.Command,
}

func main() {
	if len(os.Args) > 1 {
		if command, ok := commands[os.Args[1]]; ok {
			os.Exit(command(os.Args[2:]))
		}
	}
	fmt.Fprintln(os.Stderr, "usage: jepsen run|bench|search|mutants [flags]; -h after one of them lists its flags")
	os.Exit(2)
}
