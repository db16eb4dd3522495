package heartbeat

import "havip-cluster/manifest"

type rule struct {
	kind manifest.FindingKind
	text string
}

const (
	ownPorts    = "members find each other through the cluster; give the address to `bootstrap` or `join` as --advertise"
	ownLease    = "the lease of the cluster says how fast a failover is (--profile, --lease)"
	ownLog      = "the agent logs to the service manager"
	noFencing   = "no fencing device is needed: the kernel silences a HAVIP at its lease's deadline"
	ownGateway  = "make a check of it: `check create gateway --type ping --target ADDRESS --effect bar`, see docs/checks.md; of several in a ping_group, one each with a score"
	ownServices = "run it with the service manager"
)

// directives of ha.cf beside those that import.go reads.
var directives = map[string]rule{
	"node": {manifest.Taken, ""}, "auto_failback": {manifest.Taken, ""}, "nice_failback": {manifest.Taken, ""},
	"crm": {manifest.Taken, ""}, "pacemaker": {manifest.Taken, ""},
	"keepalive": {manifest.Changed, ownLease}, "deadtime": {manifest.Changed, ownLease},
	"warntime": {manifest.LeftOut, ownLease}, "initdead": {manifest.Changed, "nothing is owned until a majority agrees"},
	"deadping": {manifest.Taken, ""}, "ping": {manifest.Taken, ""}, "ping_group": {manifest.Taken, ""}, // read by pinged
	"hbaping": {manifest.LeftOut, ownGateway},
	"ucast":   {manifest.Changed, ownPorts}, "bcast": {manifest.Changed, ownPorts}, "mcast": {manifest.Changed, ownPorts},
	"mcast6": {manifest.Changed, ownPorts}, "udpport": {manifest.Changed, "ports are --api-port, --raft-port and --gossip-port"},
	"udp":      {manifest.Changed, ownPorts},
	"serial":   {manifest.LeftOut, "no serial lines; a third member (a witness) takes their place"},
	"baud":     {manifest.LeftOut, "no serial lines; a third member (a witness) takes their place"},
	"autojoin": {manifest.Changed, "nodes join with a one-time token (`node add`)"}, "uuidfrom": {manifest.LeftOut, "a node has an id of its own"},
	"use_logd": {manifest.LeftOut, ownLog}, "logfile": {manifest.LeftOut, ownLog}, "logfacility": {manifest.LeftOut, ownLog},
	"debug": {manifest.LeftOut, ownLog}, "debugfile": {manifest.LeftOut, ownLog}, "syslogmsgfmt": {manifest.LeftOut, ownLog},
	"conn_logd_time": {manifest.LeftOut, ownLog},
	"stonith":        {manifest.LeftOut, noFencing}, "stonith_host": {manifest.LeftOut, noFencing},
	"watchdog": {manifest.LeftOut, noFencing}, "hopfudge": {manifest.LeftOut, "no rings"},
	"respawn": {manifest.LeftOut, ownServices}, "apiauth": {manifest.LeftOut, "access is by certificate; the local socket is root's"},
	"realtime":     {manifest.LeftOut, "the process needs no real-time priority: the kernel keeps the deadline"},
	"rtprio":       {manifest.LeftOut, "the process needs no real-time priority: the kernel keeps the deadline"},
	"compression":  {manifest.LeftOut, "a setting of the heartbeat process"},
	"coredumps":    {manifest.LeftOut, "a setting of the heartbeat process"},
	"msgfmt":       {manifest.LeftOut, "a setting of the heartbeat process"},
	"enable_tests": {manifest.LeftOut, "a setting of the heartbeat process"}, "traditional_compression": {manifest.LeftOut, "a setting of the heartbeat process"},
	"compression_threshold": {manifest.LeftOut, "a setting of the heartbeat process"}, "quorum_server": {manifest.Changed, "a third member (a witness) takes its place"},
	"max_rexmit_delay": {manifest.LeftOut, "a setting of the heartbeat process"}, "memreserve": {manifest.LeftOut, "a setting of the heartbeat process"},
}

// resourceRule says why a resource is no address.
func resourceRule(kind string) string {
	switch kind {
	case "IPsrcaddr":
		return "the HAVIP never is a source by itself; set the source address in the service or with a rule of the host"
	case "drbddisk", "Filesystem", "Raid1", "LVM":
		return "storage needs fencing of its own and is no part of this"
	case "MailTo":
		return "no e-mail; follow `events --follow` or the metrics"
	case "ldirectord":
		return "IPVS is no part of this; run it from the hook on-acquire"
	case "LVSSyncDaemonSwap", "portblock", "SendArp":
		return "announcements and the silence of the old owner are the agent's own work"
	}
	return "not an address; leave it to the service manager, or run it from the hook on-acquire"
}
