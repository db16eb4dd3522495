package heartbeat

import (
	"path"
	"strconv"
	"strings"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// ping is a line of ha.cf that names what the nodes shall reach. With ipfail Heartbeat moves everything
// to the node that reaches more of them; without it nothing moves.
type ping struct {
	file   string
	number int
	option string
	group  string // of ping_group
	hosts  []string
}

// pinged reads the lines about ping nodes; false for another line.
func (i *importer) pinged(file string, l line) bool {
	option := strings.Join(l.fields, " ")
	switch l.fields[0] {
	case "ping":
		i.pings = append(i.pings, ping{file, l.number, option, "", l.fields[1:]})
	case "ping_group":
		p := ping{file: file, number: l.number, option: option}
		if len(l.fields) > 2 {
			p.group, p.hosts = l.fields[1], l.fields[2:]
		}
		i.pings = append(i.pings, p)
	case "deadping":
		i.deadping = l
		i.deadpingIn = file
	case "respawn":
		for _, f := range l.fields[1:] {
			if path.Base(f) == "ipfail" {
				i.ipfail = true
				i.report.Add(manifest.Taken, file, l.number, option, "what is reached moves addresses: by the checks of the ping nodes")
				return true
			}
		}
		return false
	default:
		return false
	}
	return true
}

// checkEvery is how often a check of a ping node runs, and how long it waits.
const (
	checkEvery = 2 * time.Second
	checkWait  = time.Second
)

// finishPings makes checks of ping nodes, or says why not.
func (i *importer) finishPings() {
	fall := fsm.DefaultCheckFall
	if l := i.deadping; len(l.fields) > 0 {
		text := l.fields[len(l.fields)-1]
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			text += "s"
		}
		option := strings.Join(l.fields, " ")
		switch d, err := time.ParseDuration(text); {
		case err != nil || d <= 0 || len(l.fields) < 2:
			i.report.Add(manifest.Wrong, i.deadpingIn, l.number, option, "%q is no time; not taken", text)
		case len(i.pings) == 0 || !i.ipfail:
			i.report.Add(manifest.LeftOut, i.deadpingIn, l.number, option, "no check is made of a ping node")
		default:
			fall = min(max(1, int((d+checkEvery-1)/checkEvery)), fsm.CheckCountMax)
			i.report.Add(manifest.Changed, i.deadpingIn, l.number, option, "%d failures in a row, one every %s", fall, checkEvery)
		}
	}
	single := 0
	for _, p := range i.pings {
		switch {
		case len(p.hosts) == 0:
			i.report.Add(manifest.Wrong, p.file, p.number, p.option, "names no address")
		case !i.ipfail:
			i.report.Add(manifest.LeftOut, p.file, p.number, p.option, "without ipfail (respawn) Heartbeat moves nothing for it. To let it: `check create gateway --type ping --target %s --effect bar`", p.hosts[0])
		case p.group != "" && len(p.hosts) > 1:
			i.report.Add(manifest.LeftOut, p.file, p.number, p.option, "counts as reached while one of its %d addresses answers, and a check has one target. For the one that decides: `check create gateway --type ping --target %s --effect bar`", len(p.hosts), p.hosts[0])
		default:
			for _, host := range p.hosts {
				single += i.pingCheck(p, host, fall)
			}
		}
	}
	if single > 1 {
		first := i.pings[0]
		i.report.Add(manifest.Changed, first.file, first.number, first.option, "ipfail compared how many ping nodes each node reaches; here each of the %d checks bars by itself, and of nodes that are all barred the best is taken", single)
	}
}

// pingCheck makes the check of one ping node, and says how many were made.
func (i *importer) pingCheck(p ping, host string, fall int) int {
	c := manifest.NewCheck(i.checkNames.Free(manifest.Label("ping-" + strings.ReplaceAll(host, ":", "-"))))
	c.Type, c.Target, c.Interval, c.Timeout, c.Fall = string(fsm.CheckPing), host, checkEvery.String(), checkWait.String(), fall
	if _, refusal := c.State(); refusal != nil {
		i.report.Add(manifest.LeftOut, p.file, p.number, p.option, "%q can be no check: %s", host, refusal.Message)
		return 0
	}
	i.report.Manifest.Checks = append(i.report.Manifest.Checks, c)
	i.report.Add(manifest.Taken, p.file, p.number, p.option, "check %s, ping of %s, bars every HAVIP on a node where it fails", c.Name, host)
	return 1
}
