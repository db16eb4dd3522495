package keepalived

import (
	"strings"

	"havip-cluster/manifest"
)

// rule says what becomes of an option: Taken or Changed ones are read in read.go as well.
type rule struct {
	kind manifest.FindingKind
	text string
}

const (
	ownAnnouncements = "announcements have their own rhythm: at once, again after a second, then at a low rate while the lease holds"
	noAdverts        = "there are no VRRP adverts; leases replace them"
	quietAlerts      = "no e-mail; follow `events --follow` or the metrics"
	ownHooks         = "run it as a hook of the HAVIP: on-acquire, on-release or on-fault"
	noVMAC           = "the HAVIP sits on the ENI itself with the ENI's own MAC address"
	ownRoutes        = "routes and rules of the host stay with the host's network configuration"
	ownChecks        = "becomes checks: see each of them"
	noTrackFile      = "its number is added to the priority, and a check of type file only says whether a file holds a text or is new enough: see docs/checks.md"
)

// instanceOptions are the options of vrrp_instance.
var instanceOptions = map[string]rule{
	"state":                      {manifest.Changed, "nobody begins as owner: the log says who owns"},
	"interface":                  {manifest.Changed, "the ENI is the one of the node in the HAVIP's subnet"},
	"virtual_router_id":          {manifest.Changed, "only used to find the same instance on the other nodes"},
	"priority":                   {manifest.Taken, "becomes a score of preference where the nodes differ"},
	"virtual_ipaddress":          {manifest.Taken, ""},
	"virtual_ipaddress_excluded": {manifest.Taken, ""},
	"nopreempt":                  {manifest.Taken, ""},
	"preempt":                    {manifest.Taken, ""},
	"preempt_delay":              {manifest.Taken, ""},
	"track_interface":            {manifest.Taken, ""},
	"track_script":               {manifest.Changed, ownChecks},
	"track_process":              {manifest.Changed, ownChecks},
	"track_file":                 {manifest.LeftOut, noTrackFile},
	"track_bfd":                  {manifest.LeftOut, "no BFD; the lease notices a dead node, the agent a dead link"},
	"unicast_peer":               {manifest.Changed, "members find each other through the cluster; `node add` admits each"},
	"unicast_src_ip":             {manifest.Changed, "give it to `bootstrap` or `join` as --advertise"},
	"mcast_src_ip":               {manifest.Changed, "give it to `bootstrap` or `join` as --advertise"},
	"advert_int":                 {manifest.Changed, "the lease of the cluster says how fast a failover is (--profile, --lease)"},
	"authentication":             {manifest.Changed, "members prove who they are by certificates (mutual TLS)"},
	"auth_hmac":                  {manifest.Changed, "members prove who they are by certificates (mutual TLS)"},
	"use_vmac":                   {manifest.LeftOut, noVMAC},
	"use_vmac_addr":              {manifest.LeftOut, noVMAC},
	"vmac_xmit_base":             {manifest.LeftOut, noVMAC},
	"use_ipvlan":                 {manifest.LeftOut, noVMAC},
	"vrf":                        {manifest.LeftOut, "VRFs are not used"},
	"native_ipv6":                {manifest.LeftOut, "the address itself says its family"},
	"dont_track_primary":         {manifest.LeftOut, "an ENI whose link is down never owns a HAVIP"},
	"track_src_ip":               {manifest.LeftOut, "the agent watches its ENIs and their addresses always"},
	"mcast_dst_ip":               {manifest.LeftOut, noAdverts},
	"unicast_fault_no_peer":      {manifest.LeftOut, noAdverts},
	"unicast_ttl":                {manifest.LeftOut, noAdverts},
	"check_unicast_src":          {manifest.LeftOut, noAdverts},
	"old_unicast_checksum":       {manifest.LeftOut, noAdverts},
	"v3_checksum_as_v2":          {manifest.LeftOut, noAdverts},
	"version":                    {manifest.LeftOut, noAdverts},
	"down_timer_adverts":         {manifest.LeftOut, noAdverts},
	"timer_expired_backup":       {manifest.LeftOut, "a late owner is silenced by the kernel at its lease's deadline"},
	"thread_timer_expired":       {manifest.LeftOut, "a late owner is silenced by the kernel at its lease's deadline"},
	"lower_prio_no_advert":       {manifest.LeftOut, noAdverts},
	"higher_prio_send_advert":    {manifest.LeftOut, noAdverts},
	"owner_ignore_adverts":       {manifest.LeftOut, noAdverts},
	"skip_check_adv_addr":        {manifest.LeftOut, noAdverts},
	"strict_mode":                {manifest.LeftOut, noAdverts},
	"kernel_rx_buf_size":         {manifest.LeftOut, noAdverts},
	"garp_master_delay":          {manifest.LeftOut, ownAnnouncements},
	"garp_master_repeat":         {manifest.LeftOut, ownAnnouncements},
	"garp_master_refresh":        {manifest.LeftOut, ownAnnouncements},
	"garp_master_refresh_repeat": {manifest.LeftOut, ownAnnouncements},
	"garp_lower_prio_delay":      {manifest.LeftOut, ownAnnouncements},
	"garp_lower_prio_repeat":     {manifest.LeftOut, ownAnnouncements},
	"garp_extra_if":              {manifest.LeftOut, ownAnnouncements},
	"vmac_garp_intvl":            {manifest.LeftOut, ownAnnouncements},
	"no_virtual_ipaddress":       {manifest.LeftOut, "without an address there is nothing to place"},
	"promote_secondaries":        {manifest.LeftOut, "the HAVIP is added as /32 (/128), so no other address depends on it"},
	"linkbeat_use_polling":       {manifest.LeftOut, "the kernel reports the link's state at once"},
	"virtual_routes":             {manifest.LeftOut, ownRoutes},
	"virtual_rules":              {manifest.LeftOut, ownRoutes},
	"accept":                     {manifest.LeftOut, "the owner always answers for its HAVIP"},
	"no_accept":                  {manifest.LeftOut, "the owner always answers for its HAVIP; block ports with the host's firewall"},
	"debug":                      {manifest.LeftOut, "set log: debug in the agent's settings"},
	"notify":                     {manifest.LeftOut, ownHooks},
	"notify_master":              {manifest.LeftOut, ownHooks},
	"notify_backup":              {manifest.LeftOut, ownHooks},
	"notify_fault":               {manifest.LeftOut, ownHooks},
	"notify_stop":                {manifest.LeftOut, ownHooks},
	"notify_deleted":             {manifest.LeftOut, ownHooks},
	"notify_master_rx_lower_pri": {manifest.LeftOut, "there is never a second owner to hear of"},
	"notify_priority_changes":    {manifest.LeftOut, "scores do not change by themselves; `explain` shows them"},
	"smtp_alert":                 {manifest.LeftOut, quietAlerts},
	"lvs_sync_daemon_interface":  {manifest.LeftOut, "IPVS is no part of this"},
}

// valued are the options of vrrp_instance that need a value; keepalived refuses a file in
// which one has none.
var valued = map[string]bool{
	"state": true, "interface": true, "virtual_router_id": true, "priority": true, "advert_int": true, "version": true, "preempt_delay": true,
	"unicast_src_ip": true, "mcast_src_ip": true, "mcast_dst_ip": true, "notify_master": true, "notify_backup": true, "notify_fault": true, "notify": true,
	"notify_stop": true, "lvs_sync_daemon_interface": true, "vrf": true,
}

// groupOptions are those of vrrp_sync_group.
var groupOptions = map[string]rule{
	"group":                      {manifest.Taken, ""},
	"track_interface":            {manifest.Taken, ""},
	"track_script":               {manifest.Changed, ownChecks},
	"track_file":                 {manifest.LeftOut, noTrackFile},
	"track_process":              {manifest.Changed, ownChecks},
	"track_bfd":                  {manifest.LeftOut, "no BFD; the lease notices a dead node, the agent a dead link"},
	"notify":                     {manifest.LeftOut, ownHooks},
	"notify_master":              {manifest.LeftOut, ownHooks},
	"notify_backup":              {manifest.LeftOut, ownHooks},
	"notify_fault":               {manifest.LeftOut, ownHooks},
	"notify_stop":                {manifest.LeftOut, ownHooks},
	"smtp_alert":                 {manifest.LeftOut, quietAlerts},
	"global_tracking":            {manifest.LeftOut, "a hard group moves as one, whatever each was tracking"},
	"sync_group_tracking_weight": {manifest.LeftOut, "a hard group moves as one, whatever each was tracking"},
	"notify_priority_changes":    {manifest.LeftOut, "scores do not change by themselves; `explain` shows them"},
}

// globalRules match the options of global_defs, by name or by how it begins; the first
// match counts.
var globalRules = []struct {
	start string
	rule
}{
	{"router_id", rule{manifest.Taken, ""}},
	{"vrrp_garp", rule{manifest.LeftOut, ownAnnouncements}},
	{"vrrp_gna", rule{manifest.LeftOut, ownAnnouncements}},
	{"vrrp_min_garp", rule{manifest.LeftOut, ownAnnouncements}},
	{"vrrp_vmac", rule{manifest.LeftOut, noVMAC}},
	{"vmac_", rule{manifest.LeftOut, noVMAC}},
	{"vrrp_strict", rule{manifest.Changed, "there is no VRRP to be strict about"}},
	{"vrrp_iptables", rule{manifest.LeftOut, "the fence has its own place in the kernel"}},
	{"vrrp_ipsets", rule{manifest.LeftOut, "the fence has its own place in the kernel"}},
	{"nftables", rule{manifest.LeftOut, "the fence has its own place in the kernel"}},
	{"vrrp_startup_delay", rule{manifest.LeftOut, "nothing is owned until a majority agrees"}},
	{"vrrp_delay_after_boot", rule{manifest.LeftOut, "nothing is owned until a majority agrees"}},
	{"notification_email", rule{manifest.LeftOut, quietAlerts}},
	{"smtp_", rule{manifest.LeftOut, quietAlerts}},
	{"no_email_faults", rule{manifest.LeftOut, quietAlerts}},
	{"notify_fifo", rule{manifest.LeftOut, "follow `events --follow` instead"}},
	{"vrrp_notify", rule{manifest.LeftOut, "follow `events --follow` instead"}},
	{"fifo_", rule{manifest.LeftOut, "follow `events --follow` instead"}},
	{"enable_snmp", rule{manifest.LeftOut, "no SNMP; /metrics is for Prometheus"}},
	{"enable_traps", rule{manifest.LeftOut, "no SNMP; /metrics is for Prometheus"}},
	{"snmp_", rule{manifest.LeftOut, "no SNMP; /metrics is for Prometheus"}},
	{"enable_dbus", rule{manifest.LeftOut, "no D-Bus; use the HTTP API"}},
	{"dbus_", rule{manifest.LeftOut, "no D-Bus; use the HTTP API"}},
	{"script_user", rule{manifest.LeftOut, "hooks run as the agent does"}},
	{"enable_script_security", rule{manifest.LeftOut, "hooks run as the agent does"}},
	{"startup_script", rule{manifest.LeftOut, "use the service manager's ExecStartPre"}},
	{"shutdown_script", rule{manifest.LeftOut, "use the service manager's ExecStopPost"}},
	{"lvs_", rule{manifest.LeftOut, "IPVS is no part of this"}},
	{"checker_", rule{manifest.LeftOut, "IPVS is no part of this"}},
	{"rs_", rule{manifest.LeftOut, "IPVS is no part of this"}},
	{"default_interface", rule{manifest.Changed, "the ENI is the one of the node in the HAVIP's subnet"}},
	{"dynamic_interfaces", rule{manifest.LeftOut, "the agent reports interfaces as they come and go"}},
	{"max_auto_priority", rule{manifest.LeftOut, "the process needs no real-time priority: the kernel keeps the deadline"}},
	{"min_auto_priority_delay", rule{manifest.LeftOut, "the process needs no real-time priority: the kernel keeps the deadline"}},
	{"vrrp_", rule{manifest.LeftOut, noAdverts}},
	{"bfd_", rule{manifest.LeftOut, "no BFD; the lease notices a dead node, the agent a dead link"}},
}

const processSetting = "a setting of the keepalived process; the agent has its own"

func globalRule(key string) rule {
	for _, r := range globalRules {
		if strings.HasPrefix(key, r.start) {
			return r.rule
		}
	}
	return rule{manifest.LeftOut, processSetting}
}

// topRules are the blocks and options at the top beside those that read.go reads.
var topRules = map[string]rule{
	"virtual_server":           {manifest.LeftOut, "IPVS is no part of this; keep keepalived for it, without vrrp_instance"},
	"virtual_server_group":     {manifest.LeftOut, "IPVS is no part of this; keep keepalived for it, without vrrp_instance"},
	"SSL":                      {manifest.LeftOut, "IPVS is no part of this; keep keepalived for it, without vrrp_instance"},
	"bfd_instance":             {manifest.LeftOut, "no BFD; the lease notices a dead node, the agent a dead link"},
	"static_ipaddress":         {manifest.LeftOut, ownRoutes},
	"static_routes":            {manifest.LeftOut, ownRoutes},
	"static_rules":             {manifest.LeftOut, ownRoutes},
	"track_group":              {manifest.LeftOut, ownRoutes},
	"linkbeat_interfaces":      {manifest.LeftOut, "the kernel reports the link's state at once"},
	"interface_up_down_delays": {manifest.LeftOut, "a link that is down moves the HAVIP at once; failures count with decay, so it does not flap"},
	"garp_group":               {manifest.LeftOut, ownAnnouncements},
	"vrrp_script":              {manifest.LeftOut, noTrackFile},
	"vrrp_track_process":       {manifest.LeftOut, noTrackFile},
	"track_process":            {manifest.LeftOut, noTrackFile},
	"vrrp_track_file":          {manifest.LeftOut, noTrackFile},
	"track_file":               {manifest.LeftOut, noTrackFile},
	"net_namespace":            {manifest.LeftOut, "start the agent in the namespace"},
	"net_namespace_ipvs":       {manifest.LeftOut, "IPVS is no part of this"},
	"instance":                 {manifest.LeftOut, processSetting},
	"use_pid_dir":              {manifest.LeftOut, processSetting},
	"child_wait_time":          {manifest.LeftOut, processSetting},
	"namespace_with_ipsets":    {manifest.LeftOut, processSetting},
	"linkbeat_use_polling":     {manifest.LeftOut, "the kernel reports the link's state at once"},
}

// addressWords are the words after an address in virtual_ipaddress, with how many values
// each takes and what becomes of it.
var addressWords = map[string]struct {
	values int
	rule
}{
	"dev":           {1, rule{manifest.Changed, "the ENI is the one of the node in the HAVIP's subnet"}},
	"brd":           {1, rule{manifest.LeftOut, "the HAVIP is a /32 (/128) without a broadcast address"}},
	"broadcast":     {1, rule{manifest.LeftOut, "the HAVIP is a /32 (/128) without a broadcast address"}},
	"scope":         {1, rule{manifest.LeftOut, "the address has scope global"}},
	"label":         {1, rule{manifest.LeftOut, "addresses carry the label of the agent"}},
	"peer":          {1, rule{manifest.LeftOut, "point-to-point addresses are not HAVIPs"}},
	"preferred_lft": {1, rule{manifest.LeftOut, "the address never is a source by itself"}},
	"metric":        {1, rule{manifest.LeftOut, "the HAVIP brings no route"}},
	"track_group":   {1, rule{manifest.LeftOut, "only for static addresses"}},
	"use_vmac":      {0, rule{manifest.LeftOut, noVMAC}},
	"home":          {0, rule{manifest.LeftOut, "mobile IPv6 is no part of this"}},
	"nodad":         {0, rule{manifest.Taken, "addresses are added without duplicate detection"}},
	"-nodad":        {0, rule{manifest.Taken, "addresses are added without duplicate detection"}},
	"mngtmpaddr":    {0, rule{manifest.LeftOut, "no temporary addresses"}},
	"noprefixroute": {0, rule{manifest.Taken, "the HAVIP brings no route"}},
	"autojoin":      {0, rule{manifest.LeftOut, "multicast groups are not joined"}},
	"no_track":      {0, rule{manifest.LeftOut, "the agent always repairs what it leases"}},
	"secondary":     {0, rule{manifest.LeftOut, "the HAVIP is added as /32 (/128), so no other address depends on it"}},
	"permanent":     {0, rule{manifest.LeftOut, "the address ends with the lease"}},
	"optimistic":    {0, rule{manifest.Taken, "addresses are added without duplicate detection"}},
	"use_vmac_addr": {0, rule{manifest.LeftOut, noVMAC}},
}
