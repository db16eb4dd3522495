package owner

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios print into their files; commit the diff only if you can explain it")

// TestHandoffScenarios runs the stories in testdata/handoff. Commands stand above a line
// ----, what they print below it, up to an empty line. A block without output prints ok.
//
//	log move web B/eth0     the log gives web to an ENI, or to "nobody"
//	log release web 1 A     ... takes away the claim of epoch 1 that A's session holds
//	log disable|enable|delete web, log close A, log open A
//	A applies [but 2]       A applies the log, all but the last 2 entries
//	A turns                 A decides and does it; prints the steps and what is said
//	A decides               A decides only; prints the steps
//	B hears released web 1 A [session 99], A hears ready web 2
//	A fails up|down|nothing from now on
//	A gives up web, A stops
//	wait 500ms
//	show                    what the log says, and who answers
func TestHandoffScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/handoff/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d scenarios: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in := &interpreter{stage: newStage(3)}
			got := in.tell(string(raw))
			if in.violation != "" {
				t.Error(in.violation)
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(raw) {
				t.Errorf("%s reads differently:\n%s", file, got)
			}
		})
	}
}

// An interpreter acts out a scenario.
type interpreter struct{ *stage }

// tell runs a scenario and gives it back with the output as it is now.
func (in *interpreter) tell(text string) string {
	var out, block []string
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		out = append(out, line)
		switch {
		case strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "":
		case line != "----":
			block = append(block, line)
		default:
			var said []string
			for _, command := range block {
				said = append(said, in.do(strings.Fields(command))...)
			}
			if block = nil; len(said) == 0 {
				said = []string{"ok"}
			}
			out = append(out, said...)
			for i+1 < len(lines) && lines[i+1] != "" {
				i++
			}
		}
	}
	return strings.Join(out, "\n")
}

func (in *interpreter) havip(name string) fsm.HAVIP {
	v, _ := in.head().HAVIPNamed(name)
	return v
}

func (in *interpreter) name(id string) string {
	for _, s := range slices.Backward(in.states) {
		if v, ok := s.HAVIPs[id]; ok {
			return v.Name
		}
	}
	return id
}

// eni makes node-a/eth0 of A/eth0, and short the reverse.
func eni(short string) string {
	node, device, _ := strings.Cut(short, "/")
	return "node-" + strings.ToLower(node) + "/" + device
}

func short(eni string) string {
	node, device, _ := strings.Cut(strings.TrimPrefix(eni, "node-"), "/")
	return strings.ToUpper(node) + "/" + device
}

func (in *interpreter) do(f []string) []string {
	n := in.node(f[0])
	switch {
	case f[0] == "log":
		return in.log(f[1], f[2:])
	case f[0] == "show":
		return in.show()
	case f[0] == "wait":
		d, _ := time.ParseDuration(f[1])
		in.now = in.now.Add(d)
	case n == nil:
		return []string{"no such command: " + strings.Join(f, " ")}
	default:
		return in.act(n, f[1], f[2:])
	}
	return nil
}

func (in *interpreter) log(what string, f []string) []string {
	var body fsm.Body
	yes, no := true, false
	switch what {
	case "move":
		to := ""
		if f[1] != "nobody" {
			to = eni(f[1])
		}
		body = in.place(in.havip(f[0]).ID, to)
	case "release":
		epoch, _ := strconv.Atoi(f[1])
		body = fsm.Release{Claims: []fsm.ReleasedClaim{{HAVIP: in.havip(f[0]).ID, Epoch: fsm.Epoch(epoch), Session: in.head().Nodes[f[2]].LastSession}}}
	case "disable":
		body = fsm.UpdateHAVIP{ID: in.havip(f[0]).ID, Change: fsm.Change{Enabled: &no}}
	case "enable":
		body = fsm.UpdateHAVIP{ID: in.havip(f[0]).ID, Change: fsm.Change{Enabled: &yes}}
	case "delete":
		body = fsm.DeleteHAVIP{ID: in.havip(f[0]).ID, Force: true}
	case "close":
		body = fsm.CloseSession{Session: in.head().Nodes[f[0]].LastSession}
	case "open":
		in.node(f[0]).open()
		return nil
	default:
		return []string{"no such command: log " + what}
	}
	if res := in.try(body); res.Refusal != nil {
		return []string{"refused: " + res.Refusal.Message}
	}
	return nil
}

func (in *interpreter) act(n *actor, what string, f []string) []string {
	number := func(i int) int { x, _ := strconv.Atoi(f[i]); return x }
	switch what {
	case "applies":
		behind := 0
		if len(f) == 2 {
			behind = number(1)
		}
		n.see(len(in.states) - 1 - behind)
	case "decides", "turns":
		return in.turn(n, what == "turns")
	case "hears":
		m := word{to: n.id, ready: f[0] == "ready", havip: in.havip(f[1]).ID, epoch: fsm.Epoch(number(2))}
		m.from = in.claimant(m.havip, m.epoch)
		if !m.ready {
			m.from = f[3]
			m.session = in.head().Nodes[f[3]].LastSession
			if len(f) == 6 {
				m.session = uint64(number(5))
			}
		}
		in.deliver(m)
	case "fails":
		n.upFails = func(string) bool { return f[0] == "up" }
		n.downFails = func(string) bool { return f[0] == "down" }
	case "gives":
		in.heap = nil
		n.giveUp(in.havip(f[1]).ID)
		return in.said(n)
	case "stops":
		n.crash()
	default:
		return []string{"no such command: " + n.id + " " + what}
	}
	return nil
}

// claimant is the node of an epoch.
func (in *interpreter) claimant(havip string, epoch fsm.Epoch) string {
	for _, c := range in.head().HAVIPs[havip].Claims() {
		if c.Epoch == epoch {
			return c.Node
		}
	}
	return ""
}

func (in *interpreter) turn(n *actor, does bool) []string {
	out := []string{}
	steps := n.decide()
	if len(steps) == 0 {
		out = append(out, n.id+": nothing to do")
	}
	for _, s := range steps {
		line := fmt.Sprintf("%s: %s %s %d on %s", n.id, s.Kind, in.name(s.HAVIP), s.Claim.Epoch, short(s.Claim.ENI))
		if len(s.To) > 0 {
			line += ", tells " + strings.Join(s.To, " and ")
		}
		out = append(out, line)
		if in.heap = nil; does {
			n.step()
			out = append(out, in.said(n)...)
		}
	}
	return out
}

// said lists the words that are under way, and takes them away.
func (in *interpreter) said(n *actor) []string {
	var out []string
	for _, m := range in.heap {
		what, to := "released", m.to
		if m.ready {
			what = "ready"
		}
		if to == "" {
			to = "leader"
		}
		line := fmt.Sprintf("%s: says %s %s %d to %s", n.id, what, in.name(m.havip), m.epoch, to)
		if m.failure != "" {
			line += ", because " + m.failure
		}
		out = append(out, line)
	}
	in.heap = nil
	return out
}

func (in *interpreter) show() []string {
	var out []string
	for _, v := range in.head().HAVIPList() {
		if v.Epoch == 0 {
			continue
		}
		line := fmt.Sprintf("%s: owner ", v.Name)
		if v.Owner == nil {
			line += "nobody"
		} else {
			line += fmt.Sprintf("%s (%d)", short(v.Owner.ENI), v.Owner.Epoch)
		}
		for _, c := range v.Draining {
			line += fmt.Sprintf(", draining %s (%d)", short(c.ENI), c.Epoch)
		}
		out = append(out, line+in.answering(v.ID))
	}
	if len(out) == 0 {
		return []string{"no HAVIP was ever placed" + in.answering("")}
	}
	return out
}

func (in *interpreter) answering(id string) string {
	var who []string
	for _, n := range in.nodes {
		for a := range n.answers {
			if a.havip == id {
				who = append(who, short(a.eni))
			}
		}
	}
	slices.Sort(who)
	if len(who) == 0 {
		return "; nobody answers"
	}
	return "; " + strings.Join(who, " and ") + " answers"
}
