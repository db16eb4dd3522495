package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// Effect is bar, or a score below 0; files write the latter as a number.
type Effect string

// EffectBar keeps HAVIPs off a node where the check fails, as long as another place is there.
const EffectBar Effect = "bar"

// Check is a check of a service. Absent fields have their defaults.
type Check struct {
	Name     string `m:"name"`
	Type     string `m:"type"` // tcp, http, exec, process, file, ping, arp or systemd
	Target   string `m:"target"`
	Interval string `m:"interval,omit"`
	Timeout  string `m:"timeout,omit"`
	Rise     int    `m:"rise"`
	Fall     int    `m:"fall"`
	Grace    string `m:"grace,omit"`
	Effect   Effect `m:"effect"`
	// Nodes and HAVIPs bound who runs it and whom it is about; none = all.
	Nodes  []string `m:"nodes,omit"`
	HAVIPs []string `m:"havips,omit"` // names, or ids
	// WhenAllFail is keep (also "") or drop.
	WhenAllFail string `m:"when_all_fail,omit"`

	Status  string   `m:"status,omit"` // of type http, such as 200-399,401
	Body    string   `m:"body,omit"`
	Headers []string `m:"headers,omit"` // Name: value
	SNI     string   `m:"sni,omit"`
	Verify  bool     `m:"verify,omit"`
	Content string   `m:"content,omit"` // of type file
	MaxAge  string   `m:"max_age,omit"`

	// Results is what nodes said at the export, by node: failing or unknown, a blank, and the
	// output. A node without a line passes. Plan reads it, apply does not.
	Results map[string]string `m:"results,omit"`
}

func (c *Check) setDefaults() {
	c.Interval, c.Rise, c.Fall, c.Effect = fsm.DefaultCheckInterval.String(), fsm.DefaultCheckRise, fsm.DefaultCheckFall, EffectBar
}

// NewCheck returns a check with every default set.
func NewCheck(name string) Check {
	c := Check{Name: name}
	c.setDefaults()
	return c
}

// number says that an effect is written as a number.
func (e Effect) number() bool {
	_, err := strconv.Atoi(string(e))
	return err == nil
}

// State is the check as the cluster keeps it, with its HAVIPs as they are named here. The refusal
// is about this check alone.
func (c Check) State() (fsm.Check, *fsm.Refusal) {
	out := fsm.Check{
		Name: c.Name, Type: fsm.CheckType(c.Type), Target: c.Target, Rise: c.Rise, Fall: c.Fall, Nodes: c.Nodes, HAVIPs: c.HAVIPs,
		Drop: c.WhenAllFail == string(placement.WhenAllFailDrop), Status: c.Status, Body: c.Body, Headers: c.Headers, SNI: c.SNI, Verify: c.Verify, Content: c.Content,
	}
	if c.Rise < 1 || c.Fall < 1 { // 0 would be taken for the default
		return out, fsm.Refuse(fsm.CodeRange, "rise %d and fall %d are not possible: 1 to %d", c.Rise, c.Fall, fsm.CheckCountMax)
	}
	if c.WhenAllFail != "" && c.WhenAllFail != string(placement.WhenAllFailKeep) && !out.Drop {
		return out, fsm.Refuse(fsm.CodeParameter, "when_all_fail: %q is neither keep nor drop", clip(c.WhenAllFail, 60))
	}
	if c.Effect != EffectBar {
		score, err := strconv.Atoi(string(c.Effect))
		if err != nil || score >= 0 {
			return out, fsm.Refuse(fsm.CodeParameter, "effect: %q is neither bar nor a score below 0, such as -50", clip(string(c.Effect), 60))
		}
		out.Score = score
	}
	for _, d := range []struct {
		what, text string
		into       *time.Duration
	}{
		{"interval", c.Interval, &out.Interval}, {"timeout", c.Timeout, &out.Timeout}, {"grace", c.Grace, &out.Grace}, {"max_age", c.MaxAge, &out.MaxAge},
	} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil {
			return out, fsm.Refuse(fsm.CodeMalformed, "%s: %q is not a duration such as 2s or 500ms", d.what, clip(d.text, 60))
		}
		if *d.into = v; v == 0 && (d.what == "interval" || d.what == "timeout") {
			return out, fsm.Refuse(fsm.CodeRange, "%s: 0 is not possible", d.what)
		}
	}
	out = out.Complete()
	return out, out.Valid()
}

// FromCheck is the form of a check of the state; havips are their names or ids.
func FromCheck(k fsm.Check, havips []string) Check {
	out := Check{
		Name: k.Name, Type: string(k.Type), Target: k.Target, Interval: k.Interval.String(), Timeout: k.Timeout.String(), Rise: k.Rise, Fall: k.Fall,
		Effect: EffectBar, Nodes: k.Nodes, HAVIPs: havips, Status: k.Status, Body: k.Body, Headers: k.Headers, SNI: k.SNI, Verify: k.Verify, Content: k.Content,
	}
	if k.Grace != 0 {
		out.Grace = k.Grace.String()
	}
	if k.MaxAge != 0 {
		out.MaxAge = k.MaxAge.String()
	}
	if k.Score != 0 {
		out.Effect = Effect(strconv.Itoa(k.Score))
	}
	if k.Drop {
		out.WhenAllFail = string(placement.WhenAllFailDrop)
	}
	return out
}

// canonical fills in what Complete does, where the check can be read.
func (c Check) canonical() Check {
	k, refusal := c.State()
	if refusal != nil {
		return c
	}
	out := FromCheck(k, k.HAVIPs)
	out.Results = c.Results
	return out
}

// fromChecks exports the checks with what nodes say of them.
func fromChecks(s *fsm.State, shared map[string]int) []Check {
	out := []Check{}
	for _, k := range s.CheckList() {
		var names []string
		for _, id := range k.HAVIPs {
			if v, there := s.HAVIPs[id]; there && shared[v.Name] == 1 {
				id = v.Name
			}
			names = append(names, id)
		}
		c := FromCheck(k, names)
		for _, n := range s.NodeList() {
			state, r := s.ResultOf(k, n)
			if !k.RunsOn(n) || state == fsm.CheckPassing {
				continue
			}
			if c.Results == nil {
				c.Results = map[string]string{}
			}
			c.Results[n.Name] = strings.TrimSpace(string(state) + " " + r.Output)
		}
		out = append(out, c)
	}
	return out
}

// checked is what the checks of a file say of its HAVIPs; ids are by name and id.
func (m Manifest) checked(ids map[string]string) placement.Checked {
	var out []placement.Check
	for _, c := range m.Checks {
		k, _ := c.State() // as far as it can be read
		p := placement.Check{Name: c.Name, Score: k.Score, Drop: k.Drop}
		for _, name := range c.HAVIPs {
			p.HAVIPs = append(p.HAVIPs, cmp.Or(ids[name], name))
		}
		for _, node := range slices.Sorted(maps.Keys(c.Results)) {
			state, output, _ := strings.Cut(c.Results[node], " ")
			p.Results = append(p.Results, placement.CheckResult{Node: node, State: placement.CheckState(state), Output: output})
		}
		out = append(out, p)
	}
	return placement.Verdicts(out)
}

// config is the desired part; nil says nothing of checks.
func checksConfig(list []Check) []fsm.Check {
	if list == nil {
		return nil
	}
	out := []fsm.Check{}
	for _, c := range list {
		k, _ := c.State() // Check has found it good
		out = append(out, k)
	}
	return out
}

// checks checks the checks.
func (c *checker) checks() {
	c.atMost("checks", len(c.m.Checks), fsm.MaxChecks, "checks")
	names := map[string]int{}
	for i, k := range c.m.Checks {
		path := at("checks", i)
		if first, twice := names[k.Name]; twice {
			c.refuse(at(path, "name"), fsm.CodeDuplicate, "check %s is here twice; first as checks[%d]", clip(k.Name, 60), first)
		}
		names[k.Name] = i
		if _, refusal := k.State(); refusal != nil {
			c.refuse(path, refusal.Code, "%s", refusal.Message)
		}
		for j, name := range k.HAVIPs {
			c.havip(at(at(path, "havips"), j), name)
		}
		if c.nodeSet == nil {
			continue
		}
		for j, name := range k.Nodes {
			if _, there := c.nodeSet[name]; !there {
				c.warn(at(at(path, "nodes"), j), fsm.CodeNotFound, "the file lists no node %q", clip(name, 60))
			}
		}
		for _, node := range slices.Sorted(maps.Keys(k.Results)) {
			state, _, _ := strings.Cut(k.Results[node], " ")
			c.oneOf(fmt.Sprintf("%s.results.%s", path, node), state, string(fsm.CheckPassing), string(fsm.CheckFailing), string(fsm.CheckUnknown))
		}
	}
}
