package pacemaker

import "havip-cluster/manifest"

type rule struct {
	kind manifest.FindingKind
	text string
}

const (
	ownAnnouncements = "announcements have their own rhythm: at once, again after a second, then at a low rate while the lease holds"
	noDaemon         = "a setting of the Pacemaker daemons"
	noFencing        = "no fencing device is needed: the kernel silences a HAVIP at its lease's deadline"
	noChecks         = "Make a check of it: `check create gateway --type ping --target ADDRESS --effect bar`, see docs/checks.md; check_gateway: true in the agent's settings watches the gateway of each ENI alone, and its link counts always"
	notAnAddress     = "not an address; leave it to the service manager, or run it from the hook on-acquire"
)

// parameters of IPaddr2, IPaddr and IPv6addr.
var parameters = map[string]rule{
	"ip":                       {manifest.Taken, ""},
	"ipv6addr":                 {manifest.Taken, ""},
	"nic":                      {manifest.Changed, "the ENI is the one of the node in the HAVIP's subnet"},
	"cidr_netmask":             {manifest.Changed, "put on the device as /32 (/128)"},
	"netmask":                  {manifest.Changed, "put on the device as /32 (/128)"},
	"broadcast":                {manifest.LeftOut, "the HAVIP is a /32 (/128) without a broadcast address"},
	"iflabel":                  {manifest.LeftOut, "addresses carry the label of the agent"},
	"lvs_support":              {manifest.LeftOut, "IPVS is no part of this"},
	"lvs_ipv6_addrlabel":       {manifest.LeftOut, "IPVS is no part of this"},
	"lvs_ipv6_addrlabel_value": {manifest.LeftOut, "IPVS is no part of this"},
	"mac":                      {manifest.LeftOut, "the HAVIP has the MAC address of its ENI"},
	"clusterip_hash":           {manifest.LeftOut, "one owner at a time; there is no load sharing"},
	"unique_clone_address":     {manifest.LeftOut, "one owner at a time; there is no load sharing"},
	"arp_interval":             {manifest.LeftOut, ownAnnouncements},
	"arp_count":                {manifest.LeftOut, ownAnnouncements},
	"arp_count_refresh":        {manifest.LeftOut, ownAnnouncements},
	"arp_bg":                   {manifest.LeftOut, ownAnnouncements},
	"arp_sender":               {manifest.LeftOut, ownAnnouncements},
	"send_arp_opts":            {manifest.LeftOut, ownAnnouncements},
	"arp_mac":                  {manifest.LeftOut, ownAnnouncements},
	"flush_routes":             {manifest.LeftOut, "the HAVIP's own routes go with it"},
	"run_arping":               {manifest.LeftOut, "conflicts are seen on the wire and reported"},
	"nodad":                    {manifest.Taken, "addresses are added without duplicate detection"},
	"noprefixroute":            {manifest.Taken, "the HAVIP brings no route"},
	"preferred_lft":            {manifest.LeftOut, "the address never is a source by itself"},
	"network_namespace":        {manifest.LeftOut, "start the agent in the namespace"},
	"check_link_status":        {manifest.Taken, "an ENI whose link is down never owns"},
	"local_start_script":       {manifest.LeftOut, "run it as the hook on-acquire"},
	"local_stop_script":        {manifest.LeftOut, "run it as the hook on-release"},
}

// metaRules are the meta attributes of a resource; those that read.go reads are Taken.
var metaRules = map[string]rule{
	"priority":               {manifest.Taken, ""},
	"target-role":            {manifest.Taken, ""},
	"is-managed":             {manifest.Taken, ""},
	"maintenance":            {manifest.Taken, ""},
	"resource-stickiness":    {manifest.Taken, ""},
	"migration-threshold":    {manifest.Taken, ""},
	"failure-timeout":        {manifest.Changed, "failures decay by themselves, one every ten minutes"},
	"multiple-active":        {manifest.LeftOut, "there is never a second owner"},
	"requires":               {manifest.LeftOut, "a quorum is always needed, fencing devices never"},
	"allow-migrate":          {manifest.LeftOut, "a planned move is always a hand-off"},
	"critical":               {manifest.LeftOut, "groups are symmetric"},
	"allow-unhealthy-nodes":  {manifest.LeftOut, "a node with red health owns nothing"},
	"start-failure-is-fatal": {manifest.LeftOut, "a failed start counts as any failure"},
	"collocated":             {manifest.Taken, ""},
	"ordered":                {manifest.LeftOut, ""},
}

// properties of the cluster (crm_config).
var properties = map[string]rule{
	"symmetric-cluster":           {manifest.Taken, "says whether a HAVIP's range is every node or the named ones"},
	"maintenance-mode":            {manifest.Taken, ""},
	"stop-all-resources":          {manifest.Taken, ""},
	"default-resource-stickiness": {manifest.Taken, ""},
	"is-managed-default":          {manifest.Taken, "default of every resource"},
	"no-quorum-policy":            {manifest.Changed, "without a majority nothing is served, always"},
	"fencing-enabled":             {manifest.LeftOut, noFencing},
	"stonith-enabled":             {manifest.LeftOut, noFencing},
	"fencing-action":              {manifest.LeftOut, "no fencing device is needed"},
	"stonith-action":              {manifest.LeftOut, "no fencing device is needed"},
	"fencing-timeout":             {manifest.LeftOut, "no fencing device is needed"},
	"stonith-timeout":             {manifest.LeftOut, "no fencing device is needed"},
	"fencing-watchdog-timeout":    {manifest.LeftOut, "no fencing device is needed"},
	"stonith-watchdog-timeout":    {manifest.LeftOut, "no fencing device is needed"},
	"have-watchdog":               {manifest.LeftOut, "no fencing device is needed"},
	"priority-fencing-delay":      {manifest.LeftOut, "no fencing device is needed"},
	"placement-strategy":          {manifest.Changed, "a node's capacity always counts; among equals the emptiest node wins"},
	"start-failure-is-fatal":      {manifest.LeftOut, "a failed start counts as any failure"},
	"node-health-strategy":        {manifest.LeftOut, "red health owns nothing, yellow gets nothing new"},
	"shutdown-lock":               {manifest.LeftOut, "after a stop of the whole cluster each HAVIP goes back to its last owner"},
	"dc-version":                  {manifest.LeftOut, "says only which version wrote the file"},
	"cluster-infrastructure":      {manifest.LeftOut, "says only which version wrote the file"},
	"cluster-name":                {manifest.LeftOut, "a cluster has an id"},
	"last-lrm-refresh":            {manifest.LeftOut, "a note of Pacemaker to itself"},
}

// sections of the configuration that hold nothing for a HAVIP.
var sections = map[string]string{
	"op_defaults":      "operations do not exist: the agent sees the kernel's events at once",
	"fencing-topology": "no fencing device is needed",
	"acls":             "access is by certificate; the local socket is root's",
	"alerts":           "follow `events --follow` or the metrics",
}
