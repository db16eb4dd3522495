package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// Help is the same everywhere: it begins with what the verb does, and has examples that can be typed as
// they stand. A verb that is made elsewhere may bring its own; a test finds those without any.

// explainVerbs completes the help of every command.
func explainVerbs(c *cobra.Command) {
	switch long := strings.TrimSpace(c.Long); {
	case long == "" && c.Short != "":
		c.Long = c.Short + "."
	case !strings.HasPrefix(long, c.Short) && c.HasParent():
		c.Long = c.Short + ".\n\n" + long
	}
	if lines := examples[strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")]; c.Example == "" && len(lines) > 0 {
		c.Example = "  havip-cluster " + strings.Join(lines, "\n  havip-cluster ")
	}
	for _, sub := range c.Commands() {
		explainVerbs(sub)
	}
}

// examples are what follows the program's name, by verb.
var examples = map[string][]string{
	"agent":     {"agent", "agent --config /etc/havip-cluster/agent.yaml"},
	"audit":     {"audit --since 24h", "audit --follow -o json"},
	"bootstrap": {"bootstrap --node node-1 --advertise 10.0.0.11", "bootstrap --node node-1 --advertise 10.0.0.11 --profile fast --lease 100ms"},
	"join":      {"join --node node-2 --advertise 10.0.0.12 --token-file /root/token 10.0.0.11:7400"},
	"demo":      {"demo"},
	"version":   {"version"},
	"recover":   {"recover", "recover --off node-2,node-3"},

	"apply":     {"apply -f cluster.yaml --dry-run --diff", "apply -f cluster.yaml --prune", "apply -f - --yes"},
	"export":    {"export", "export -o json"},
	"verify":    {"verify cluster.yaml"},
	"revisions": {"revisions"},
	"rollback":  {"rollback 16 --dry-run", "rollback 16"},
	"plan":      {"plan --down node-2", "plan --n-1", "plan -f cluster.yaml", "plan --offline state.yaml --standby node-1"},
	"explain":   {"explain web", "explain web --epoch 3"},
	"placement": {"placement", "placement web db -o json", "placement -o jsonpath='{range .[*]}{.name}={.node}{\"\\n\"}{end}'"},

	"cluster maintenance": {"cluster maintenance on"},
	"cluster set":         {"cluster set lease=500ms", "cluster set rebalance=even per-node=20"},
	"cluster show":        {"cluster show", "cluster show -o jsonpath={.leader}"},
	"debug bundle":        {"debug bundle"},

	"eni list": {"eni list", "eni list -o wide"},
	"eni set":  {"eni set node-1/eth1 --subnet lan2", "eni set node-1/eth1 --primary false"},
	"eni show": {"eni show node-1/eth0"},

	"group create": {"group create fronts web api --apart", "group create pair web db --together --soft"},
	"group delete": {"group delete fronts"},
	"group list":   {"group list"},
	"group show":   {"group show fronts"},

	"havip ban":            {"havip ban web node-2 --for 1h"},
	"havip bind-eip":       {"havip bind-eip web 203.0.113.7"},
	"havip clear-failures": {"havip clear-failures web", "havip clear-failures --all node-1"},
	"havip create": {
		"havip create web --ip 10.0.0.100", "havip create web --ip 10.0.0.100 --range node:node-1,node-2 --prefer node-1=100",
		"havip create db --subnet lan2 --no-range-limit --failback immediate",
	},
	"havip delete":       {"havip delete web", "havip delete web --release"},
	"havip disable":      {"havip disable web"},
	"havip enable":       {"havip enable web"},
	"havip list":         {"havip list", "havip list -o name", "havip ls -o wide --no-headers"},
	"havip maintenance":  {"havip maintenance web on"},
	"havip move":         {"havip move web --to node-2", "havip move web --to node-2/eth1"},
	"havip range add":    {"havip range add web node-3", "havip range add web eni:node-3/eth1"},
	"havip range remove": {"havip range remove web node-3", "havip range rm web node:node-3 --evict"},
	"havip rename":       {"havip rename web www"},
	"havip show":         {"havip show web", "havip show web -o jsonpath={.node}"},
	"havip unban":        {"havip unban web node-2"},
	"havip unbind-eip":   {"havip unbind-eip web"},
	"havip update":       {"havip update web --priority 7 --prefer node-1=100", "havip update web --range any"},

	"keys install":       {"keys install node-4.crt"},
	"keys renew-offline": {"keys renew-offline"},
	"keys request":       {"keys request"},
	"keys rotate":        {"keys rotate gossip", "keys rotate node --node node-2", "keys rotate ca"},
	"keys sign":          {"keys sign node-4.req --node node-4"},
	"keys status":        {"keys status"},

	"node activate":    {"node activate node-2"},
	"node add":         {"node add node-3", "node add cheap-1 --role witness --ttl 10m"},
	"node drain":       {"node drain node-2", "node drain node-2 --deadline 1m"},
	"node list":        {"node list", "node list -o wide", "node ls -o jsonpath='{.[?(@.status==\"lost\")].name}'"},
	"node maintenance": {"node maintenance node-2 on"},
	"node remove":      {"node remove node-3", "node rm node-3 --force"},
	"node set":         {"node set node-1 --capacity 10", "node set node-1 --health red --reason 'disk is failing'", "node set node-3 --address 10.0.0.23", "node set node-3 --address 10.0.0.23 --local"},
	"node show":        {"node show node-1"},
	"node standby":     {"node standby node-2"},

	"snapshot inspect": {"snapshot inspect before.snap"},
	"snapshot restore": {"snapshot restore before.snap --dry-run", "snapshot restore before.snap"},
	"snapshot save":    {"snapshot save before.snap"},

	"subnet create": {"subnet create lan2 --cidr 10.78.0.0/24 --gateway 10.78.0.1"},
	"subnet delete": {"subnet delete lan2"},
	"subnet list":   {"subnet list"},
	"subnet show":   {"subnet show lan2"},

	"token create": {"token create grafana --role viewer", "token create deploy --role operator --group fronts --ttl 720h"},
	"token list":   {"token list"},
	"token revoke": {"token revoke grafana"},

	"wait cluster": {"wait cluster --healthy --timeout 1m"},
	"wait havip":   {"wait havip web --owned", "wait havip web --on node-2 --timeout 30s"},
	"wait node":    {"wait node node-2 --drained"},
}
