package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"havip-cluster/jepsen/netns"
)

// quickStart are the commands of the README's section, in their order.
func quickStart(t *testing.T) (commands []string) {
	t.Helper()
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(raw), "\n## A cluster in five minutes\n")
	section, _, ends := strings.Cut(section, "\n## ")
	if !found || !ends {
		t.Fatal("README.md has no section of that name")
	}
	for line := range strings.Lines(section) {
		if code, indented := strings.CutPrefix(strings.TrimRight(line, "\n"), "    "); indented {
			command, _, _ := strings.Cut(code, " #")
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	return commands
}

// TestQuickStart types what the README's quick start says, word for word: two hosts, a HAVIP, and its
// move. What the first host prints for the second is what the README shows.
func TestQuickStart(t *testing.T) {
	long(t)
	beside(t)
	b := unformedIn(t, netns.Options{Nodes: 2})
	m := &move{Bed: b, dir: t.TempDir()}
	for i := 1; i <= 2; i++ {
		name := m.host(i).Name
		m.write(name+"/bin/havip-cluster", fmt.Sprintf("#!/bin/sh\nexec %s --data-dir %s \"$@\"\n", b.Cluster.Binary, b.Cluster.DataDir(i)), 0o700)
		_, err := b.Lab.Node(i).Respond(port)
		b.must(err)
	}
	const first, second = 1, 2
	agent := func(i int) guideStep {
		return guideStep{command: "havip-cluster agent &", hosts: []int{i}}
	}
	token := ""
	join := "havip-cluster join --node node-2 --advertise 10.77.0.12 --token-file - 10.77.0.11:7400"
	steps := []guideStep{
		{command: "havip-cluster bootstrap --node node-1 --advertise 10.77.0.11", hosts: []int{first}, check: says("node-1")},
		agent(first),
		{command: "havip-cluster node add node-2", hosts: []int{first}, until: true, check: says(strings.Replace(join, "10.77.0.12", "IP", 1)), after: func(a answer) {
			_, rest, _ := strings.Cut(a.out, "TOKEN")
			token, _, _ = strings.Cut(strings.TrimSpace(rest), "\n")
		}},
		{command: join, hosts: []int{second}},
		agent(second),
		{command: "havip-cluster havip create web --ip 10.77.0.100", hosts: []int{second}, until: true, check: says("web is limited to the nodes of today: node-1, node-2.")},
		{command: "havip-cluster placement", hosts: []int{second}, until: true, check: says("web", "AVAILABLE", "node-")},
		{command: "havip-cluster explain web", hosts: []int{second}, check: says("node-1/eth0", "node-2/eth0")},
		{command: "havip-cluster havip move web --to node-2", hosts: []int{second}, until: true, check: says("web", "node-2/eth0")},
	}
	want := make([]string, len(steps))
	for i, s := range steps {
		want[i] = s.command
	}
	if got := quickStart(t); !slices.Equal(got, want) {
		t.Fatalf("the README has\n%s\nand the test types\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, s := range steps {
		switch s.command {
		case "havip-cluster agent &": // as the service manager does, with its output kept
			b.must(b.Cluster.Start(s.hosts[0]))
		case join: // its input is the token that was printed
			file := filepath.Join(m.dir, m.host(second).Name, "token")
			b.must(os.WriteFile(file, []byte(token+"\n"), 0o600))
			m.run(guideStep{command: s.command + " < " + file, hosts: s.hosts, check: says("node-2")})
		default:
			m.run(s)
		}
	}
	b.Eventually("node-2 has the address and serves", func() bool { return m.has(second) && b.has(second) && b.Owner() == second })
	m.run(guideStep{command: "havip-cluster status", hosts: []int{first}, until: true, check: says("2 nodes with 2 voters")})
}
