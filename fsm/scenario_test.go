package fsm

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
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios print into their files; commit the diff only if you can explain it")

// TestScenarios runs the stories in testdata/scenarios. Commands stand above a line
// ----, what they print below it, up to an empty line. A command that is done without a
// word prints nothing; a block without output prints ok.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d scenarios: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newInterpreter(t).tell(string(raw))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(raw) {
				t.Errorf("%s reads differently:\n%s", file, difference(string(raw), got))
			}
		})
	}
}

// difference shows the first line that differs, with what is around it.
func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	from := max(0, i-6)
	return fmt.Sprintf("line %d\n--- want\n%s\n--- got\n%s", i+1,
		strings.Join(a[from:min(len(a), i+4)], "\n"), strings.Join(b[from:min(len(b), i+4)], "\n"))
}

// An interpreter reads a scenario and acts it out.
type interpreter struct {
	*world
	enis  map[string][]ENI  // by node name: what the node reports
	first map[string]uint64 // session numbers by the name that a scenario gave them
	nodes int               // admitted so far; each gets an address of its own
}

func newInterpreter(t *testing.T) *interpreter {
	return &interpreter{world: empty(t), enis: map[string][]ENI{}, first: map[string]uint64{}}
}

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
				said = append(said, in.run(command)...)
			}
			if len(said) == 0 {
				said = []string{"ok"}
			}
			out, block = append(out, said...), nil
			for i+1 < len(lines) && lines[i+1] != "" {
				i++ // what was printed the last time
			}
		}
	}
	if len(block) > 0 {
		in.t.Errorf("commands without ---- at the end: %q", block)
	}
	return strings.Join(out, "\n")
}

// run does one command and says what came of it.
func (in *interpreter) run(line string) []string {
	in.t.Helper()
	words := strings.Fields(line)
	verb, args := words[0], words[1:]
	if f, ok := interpreterShows[verb]; ok {
		return f(in, args)
	}
	f, ok := interpreterVerbs[verb]
	if !ok {
		in.t.Fatalf("unknown command: %s", line)
	}
	body := f(in, args)
	if body == nil {
		return nil
	}
	before := len(in.state.HAVIPs)
	res := in.try(body)
	if res.Refusal != nil {
		return []string{fmt.Sprintf("refused: %s: %s", res.Refusal.Code, res.Refusal.Message)}
	}
	var said []string
	for _, part := range res.Refused {
		said = append(said, "refused in part: "+part)
	}
	if before > len(in.state.HAVIPs) {
		said = append(said, "a HAVIP is gone")
	}
	return said
}

// option takes NAME=VALUE out of the arguments.
func option(args []string, name string) (string, bool) {
	for _, a := range args {
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

func number(t testing.TB, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func duration(t testing.TB, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// numbered gives a session: the newest of a node, or one that `call` has named.
func (in *interpreter) numbered(name string) uint64 {
	if n, ok := in.first[name]; ok {
		return n
	}
	return in.session(name)
}

// assignment reads HAVIP ENI|nobody [from=EPOCH] [session=NAME].
func (in *interpreter) assignment(args []string) Assignment {
	in.t.Helper()
	v := in.get(args[0])
	a := Assignment{HAVIP: v.ID, FromEpoch: v.Epoch, Reason: "asked for"}
	if args[1] != "nobody" {
		a = in.to(args[0], args[1])
	}
	if from, ok := option(args, "from"); ok {
		a.FromEpoch = Epoch(number(in.t, from))
	}
	if name, ok := option(args, "session"); ok {
		a.Session = in.numbered(name)
	}
	return a
}

func readRange(words string) Range {
	kind, members, _ := strings.Cut(words, ":")
	return Range{Type: RangeType(kind), Members: strings.FieldsFunc(members, func(r rune) bool { return r == ',' }), Limit: true}
}

// interpreterVerbs are the commands that become a log entry, or set the stage for one (nil).
var interpreterVerbs = map[string]func(in *interpreter, args []string) Body{
	"node": func(in *interpreter, args []string) Body { // NAME [role]: joined by a token, the first by bootstrap
		in.nodes++
		if in.nodes == 1 {
			return InitCluster{ID: "c-story", Profile: "lan", Lease: 500 * time.Millisecond, Node: newNode(args[0], 1)}
		}
		role := RoleVoter
		if len(args) > 1 {
			role = Role(args[1])
		}
		in.join(args[0], role, in.nodes)
		return nil
	},
	"subnet": func(_ *interpreter, args []string) Body { return CreateSubnet{subnet(args[0], args[1])} },
	"eni": func(in *interpreter, args []string) Body { // NODE DEVICE CIDR [primary] [down]
		e := eniAt(args[1], args[2], slices.Contains(args, "primary"))
		e.Up = !slices.Contains(args, "down")
		in.enis[args[0]] = append(slices.DeleteFunc(in.enis[args[0]], func(o ENI) bool { return o.Device == e.Device }), e)
		return ReportENIs{Node: nodeID(args[0]), ENIs: in.enis[args[0]]}
	},
	"detach": func(in *interpreter, args []string) Body { // NODE DEVICE
		in.enis[args[0]] = slices.DeleteFunc(in.enis[args[0]], func(o ENI) bool { return o.Device == args[1] })
		return ReportENIs{Node: nodeID(args[0]), ENIs: in.enis[args[0]]}
	},
	"open": func(in *interpreter, args []string) Body { // NODE [last=SESSION]
		last := in.session(args[0])
		if name, ok := option(args, "last"); ok {
			last = in.numbered(name)
		}
		return OpenSession{Node: nodeID(args[0]), Last: last, Attempt: "a"}
	},
	"call": func(in *interpreter, args []string) Body { // NAME NODE: a name for its newest session
		in.first[args[0]] = in.session(args[1])
		return nil
	},
	"drain": func(in *interpreter, args []string) Body {
		return DrainSession{Node: nodeID(args[0]), Session: in.session(args[0])}
	},
	"close": func(in *interpreter, args []string) Body { // SESSION [released] [place HAVIP ENI]...
		b := CloseSession{Session: in.numbered(args[0]), Released: slices.Contains(args, "released")}
		for i, word := range args {
			if word == "place" {
				b.Place = append(b.Place, in.assignment(args[i+1:i+3]))
			}
		}
		return b
	},
	"havip": func(_ *interpreter, args []string) Body { // NAME IP [range=cvm:n1,n2]
		b := CreateHAVIP{Name: args[0], IP: addr(args[1])}
		if words, ok := option(args, "range"); ok {
			b.Range = readRange(words)
		}
		return b
	},
	"range": func(in *interpreter, args []string) Body { // HAVIP cvm:n1,n2
		return UpdateHAVIP{ID: in.get(args[0]).ID, Range: ptr(readRange(args[1]))}
	},
	"enable": func(in *interpreter, args []string) Body {
		return UpdateHAVIP{ID: in.get(args[0]).ID, Change: Change{Enabled: ptr(true)}}
	},
	"disable": func(in *interpreter, args []string) Body {
		return UpdateHAVIP{ID: in.get(args[0]).ID, Change: Change{Enabled: ptr(false)}}
	},
	"delete": func(in *interpreter, args []string) Body {
		return DeleteHAVIP{ID: in.get(args[0]).ID, Force: slices.Contains(args, "--force")}
	},
	"place": func(in *interpreter, args []string) Body { return Place{[]Assignment{in.assignment(args)}} },
	"release": func(in *interpreter, args []string) Body { // HAVIP EPOCH SESSION [because WORDS...]
		r := ReleasedClaim{HAVIP: in.get(args[0]).ID, Epoch: Epoch(number(in.t, args[1])), Session: in.numbered(args[2])}
		if i := slices.Index(args, "because"); i > 0 {
			r.Failure = strings.Join(args[i+1:], " ")
		}
		return Release{[]ReleasedClaim{r}}
	},
	"removing": func(_ *interpreter, args []string) Body { return UpdateNode{ID: nodeID(args[0]), Removing: ptr(true)} },
	"remove":   func(_ *interpreter, args []string) Body { return RemoveNode{nodeID(args[0])} },
	"lease":    func(in *interpreter, args []string) Body { return SetLease{duration(in.t, args[0])} },
	"settle": func(in *interpreter, args []string) Body { // [INDEX], else the last change
		if len(args) > 0 {
			return SettleLease{number(in.t, args[0])}
		}
		return SettleLease{in.state.Cluster.LeaseIndex}
	},
	"token": func(in *interpreter, args []string) Body { // ID NODE ROLE TTL
		return CreateToken{Token{ID: args[0], SecretHash: "secret of " + args[0], Node: args[1], Role: Role(args[2]), Expires: in.at + int64(duration(in.t, args[3]))}}
	},
	"join": func(in *interpreter, args []string) Body { // NODE TOKEN [key=K] [secret=S] [id=I]
		b := AddNode{Token: args[1], SecretHash: "secret of " + args[1], Node: newNode(args[0], 100+int(args[0][len(args[0])-1]-'0'))}
		if key, ok := option(args, "key"); ok {
			b.Node.KeyHash = key
		}
		if secret, ok := option(args, "secret"); ok {
			b.SecretHash = secret
		}
		if id, ok := option(args, "id"); ok {
			b.Node.ID = id
		}
		return b
	},
	"wait": func(in *interpreter, args []string) Body {
		in.at += int64(duration(in.t, args[0]))
		return nil
	},
}

// interpreterShows are the commands that only look.
var interpreterShows = map[string]func(in *interpreter, args []string) []string{
	"show": func(in *interpreter, _ []string) []string {
		var out []string
		for _, v := range in.state.HAVIPList() {
			out = append(out, in.line(v))
		}
		if len(out) == 0 {
			out = []string{"no HAVIPs"}
		}
		return out
	},
	"why": func(in *interpreter, args []string) []string { return []string{in.get(args[0]).Reason} },
	"may": func(in *interpreter, args []string) []string { // HAVIP ENI: is it eligible?
		if why := in.state.Ineligible(in.get(args[0]), in.state.ENIs[args[1]], in.at); why != nil {
			return []string{"no: " + why.Text}
		}
		return []string{"yes"}
	},
	"sessions": func(in *interpreter, _ []string) []string {
		var out []string
		for _, sess := range in.state.SessionList() {
			line := fmt.Sprintf("%s has session %d", in.state.NodeName(sess.Node), sess.Number)
			if sess.Draining {
				line += ", draining"
			}
			out = append(out, line)
		}
		if len(out) == 0 {
			out = []string{"no sessions"}
		}
		return out
	},
	"nodes": func(in *interpreter, _ []string) []string {
		var out []string
		for _, n := range in.state.NodeList() {
			out = append(out, fmt.Sprintf("%s: %s, id %s, key %s", n.Name, n.Role, n.ID, n.KeyHash))
		}
		return out
	},
	"show-lease": func(in *interpreter, _ []string) []string {
		return []string{fmt.Sprintf("lease %s, longest %s, changed at %d", in.state.Cluster.Lease, in.state.Cluster.LeaseMax, in.state.Cluster.LeaseIndex)}
	},
	"events": func(in *interpreter, args []string) []string { // the last N
		events := in.state.Events
		events = events[len(events)-int(number(in.t, args[0])):]
		var out []string
		for _, e := range events {
			out = append(out, fmt.Sprintf("%s: %s", e.Kind, e.Text))
		}
		return out
	},
}

// line says who owns a HAVIP, and whether he may answer for it yet (lease protocol, rule 6).
func (in *interpreter) line(v HAVIP) string {
	claim := func(c Claim) string { return fmt.Sprintf("%s (epoch %d)", c.ENI, c.Epoch) }
	out := fmt.Sprintf("%s: epoch %d, ", v.Name, v.Epoch)
	if v.Owner == nil {
		out += "no owner"
	} else {
		out += "owner " + claim(*v.Owner)
	}
	for i, c := range v.Draining {
		out += []string{", waits for ", " and "}[min(i, 1)] + claim(c)
	}
	if v.Deleting {
		out += ", being deleted"
	}
	if v.Disabled {
		out += ", disabled"
	}
	return out
}
