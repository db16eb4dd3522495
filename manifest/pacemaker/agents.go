package pacemaker

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"havip-cluster/manifest"
)

func isAddress(kind string) bool { return kind == "IPaddr2" || kind == "IPaddr" || kind == "IPv6addr" }

// byTheCloud are the agents that move an address by a call to the cloud.
var byTheCloud = []string{
	"aws-vpc-move-ip", "aws-vpc-route53", "awseip", "awsvip", "azure-lb", "azure-events", "azure-events-az", "aliyun-vpc-move-ip", "gcp-ilb",
	"gcp-vpc-move-ip", "gcp-vpc-move-route", "gcp-vpc-move-vip", "ibm-cloud-vpc-cr-vip", "ibm-cloud-vpc-move-fip", "openstack-floating-ip",
	"openstack-virtual-ip", "powervs-subnet", "powervs-move-ip", "eipmove",
}

// noAddress says what becomes of a resource that is no address resource, some of which hold
// an address all the same.
func (r *reader) noAddress(class, kind string, params map[string]string) (manifest.FindingKind, string) {
	ip := addressAmong(params)
	space := cmp.Or(params["ns"], params["netns"], params["network_namespace"], params["namespace"])
	switch {
	case class == "stonith" || strings.HasPrefix(kind, "fence_") && class != "ocf":
		return manifest.LeftOut, noFencing
	case slices.Contains(byTheCloud, kind) && ip != "":
		return manifest.LeftOut, "holds the address " + ip + ", which the cloud's own routes or interfaces move. A HAVIP is moved by the announcements of its owner; where the network does not heed them, keep this agent"
	case slices.Contains(byTheCloud, kind):
		return manifest.LeftOut, "a part of how the cloud moves an address (it answers or calls the cloud); a HAVIP is moved by the announcements of its owner"
	case kind == "IPsrcaddr":
		return manifest.LeftOut, "the HAVIP never is a source by itself; set the source address in the service or with a rule of the host"
	case kind == "pingd" || kind == "ping" || kind == "ethmonitor":
		return manifest.LeftOut, "what it measures no longer moves anything. " + noChecks
	case ip != "" && space != "":
		return manifest.LeftOut, "holds the address " + ip + " in the network namespace " + space + "; that agent is not known here: run a havip-cluster agent in that namespace"
	case ip != "":
		return manifest.LeftOut, "holds the address " + ip + ", and that agent is not known here; add the HAVIP by hand if it may move so"
	}
	return manifest.LeftOut, notAnAddress
}

// addressAmong is the address that a parameter with the name of one holds, "" without one.
func addressAmong(params map[string]string) string {
	for _, name := range []string{"ip", "address", "ipaddr", "ipaddress", "ip_address", "eip", "elastic_ip", "alias_ip", "secondary_private_ip", "vip", "ipv6addr"} {
		host, _, _ := strings.Cut(params[name], "/")
		if a, err := netip.ParseAddr(host); err == nil {
			return a.String()
		}
	}
	return ""
}
