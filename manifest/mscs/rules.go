package mscs

import "havip-cluster/manifest"

// rule says what becomes of a property.
type rule struct {
	kind manifest.FindingKind
	text string
}

func leave(text string) rule { return rule{manifest.LeftOut, text} }

// silent is what tells of the moment and not of the configuration.
var silent = rule{}

// parameterRules are the parameters of an address beside Address.
var parameterRules = map[string]rule{
	"SubnetMask":            {manifest.Changed, "put on the device as /32"},
	"PrefixLength":          {manifest.Changed, "put on the device as /128"},
	"Network":               {manifest.Changed, "the ENI is the one of the node in the HAVIP's subnet; `eni set` says otherwise"},
	"EnableDhcp":            {manifest.Taken, "the address is fixed"},
	"EnableNetBIOS":         leave("an address has no name here"),
	"OverrideAddressMatch":  leave("the range says where it may be"),
	"ProbeFailureThreshold": leave("the load balancer has its own"),
	"LeaseObtainedTime":     leave("of DHCP, which is off"),
	"LeaseExpiresTime":      leave("of DHCP, which is off"),
	"DhcpServer":            leave("of DHCP, which is off"),
	"DhcpAddress":           leave("of DHCP, which is off"),
	"DhcpSubnetMask":        leave("of DHCP, which is off"),
}

// resourceRules are the properties of an address's resource that say something.
var resourceRules = map[string]rule{
	"RestartAction":        leave("the agent puts an address back within 100 ms, and gives it up when it cannot"),
	"RestartThreshold":     leave("see RestartAction"),
	"RestartPeriod":        leave("see RestartAction"),
	"RestartDelay":         leave("see RestartAction"),
	"RetryPeriodOnFailure": leave("a node that could not serve it pauses by itself, longer each time"),
	"LooksAlivePollPeriod": leave("the kernel tells when an address, a link or the fence changes"),
	"IsAlivePollPeriod":    leave("see LooksAlivePollPeriod"),
	"PendingTimeout":       leave("putting an address up takes a millisecond"),
	"DeadlockTimeout":      leave("no resource has code of its own here"),
	"SeparateMonitor":      leave("no resource has code of its own here"),
}

// groupRules are the properties of a group that are no settings here, or tell of the moment.
var groupRules = map[string]rule{
	"Name": silent, "Id": silent, "Cluster": silent, "OwnerNode": silent, "State": silent, "IsCoreGroup": silent, "StatusInformation": silent, "CCFEpoch": silent,
	"UpdateDomain": silent, "GroupType": silent, "DefaultOwner": silent, "Characteristics": silent, "Flags": silent, "PSComputerName": silent, "RunspaceId": silent,
	"PSShowComputerName": silent, "InternalState": silent, "Caption": silent, "Status": silent, "CreationTime": silent,
	"Description":               leave("say it with `havip update NAME --description`"),
	"ColdStartSetting":          leave("after a full stop everything goes back to where it was"),
	"ResiliencyPeriod":          leave("a node that the others do not hear has no lease, and nobody waits for it longer than that"),
	"PreferredSite":             leave("sites are not known here: prefer nodes, or keep HAVIPs apart"),
	"FaultDomain":               leave("sites are not known here: prefer nodes, or keep HAVIPs apart"),
	"PlacementOptions":          leave("`explain` shows how a place is chosen"),
	"IsExcludedFromRebalancing": leave("nothing is moved for an even spread unless `rebalance: even` says so"),
}

// typeRules are the types of resources that are no addresses.
var typeRules = map[string]string{
	"Network Name":                  "a name in DNS and Active Directory; point the name at the HAVIP",
	"Distributed Network Name":      "a name in DNS; point the name at the HAVIP",
	"IPv6 Tunnel Address":           "tunnels are not made here",
	"Physical Disk":                 "storage is not moved here",
	"File Server":                   "a service; a check can steer the HAVIP by it: `check create`",
	"File Share Witness":            "a witness; here a third host votes: `node add NAME --role witness`",
	"Cloud Witness":                 "a witness; here a third host votes: `node add NAME --role witness`",
	"Generic Application":           "a service; run it under systemd and bind the HAVIP to it by a check: `check create --type process`",
	"Generic Service":               "a service; run it under systemd and bind the HAVIP to it by a check: `check create --type process`",
	"Generic Script":                "a service; `check create --type exec` steers the HAVIP by a program",
	"Virtual Machine":               "virtual machines are not moved here",
	"SQL Server":                    "a service; a check can steer the HAVIP by it: `check create --type tcp`",
	"SQL Server Availability Group": "a service; a check can steer the HAVIP by it: `check create --type exec`",
	"NAT":                           "address translation is not made here",
	"Disjoint IPv4 Address":         "a gateway's addresses; give each a HAVIP by hand",
	"Disjoint IPv6 Address":         "a gateway's addresses; give each a HAVIP by hand",
	"DHCP Service":                  "a service; a check can steer the HAVIP by it: `check create`",
}

func typeRule(kind string) string {
	if text, known := typeRules[kind]; known {
		return text
	}
	return "no address; a check can steer a HAVIP by a service: `check create`"
}
