package tencent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"havip-cluster/provider"
)

type describeENIs struct {
	Filters []filter
	Offset  int
	Limit   int
}

// eniItem is a network interface in the API's words.
type eniItem struct {
	NetworkInterfaceId, MacAddress, VpcId, SubnetId, State, Zone *string
	Primary                                                      *bool
	Attachment                                                   *struct{ InstanceId *string }
	PrivateIpAddressSet                                          []struct{ PrivateIpAddress *string }
}

func (i eniItem) eni() provider.ENI {
	e := provider.ENI{
		ID: deref(i.NetworkInterfaceId), MAC: strings.ToLower(deref(i.MacAddress)), VPC: deref(i.VpcId), Subnet: deref(i.SubnetId),
		State: deref(i.State), Zone: deref(i.Zone), Primary: i.Primary != nil && *i.Primary,
	}
	if i.Attachment != nil {
		e.Instance = deref(i.Attachment.InstanceId)
	}
	for _, a := range i.PrivateIpAddressSet {
		if ip, err := netip.ParseAddr(deref(a.PrivateIpAddress)); err == nil {
			e.Addresses = append(e.Addresses, ip)
		}
	}
	slices.SortFunc(e.Addresses, netip.Addr.Compare)
	return e
}

// ENIs implements provider.Inventory. The API has no filter by MAC, so the VPC is listed.
func (c *Client) ENIs(ctx context.Context, macs []string) ([]provider.ENI, error) {
	vpc, err := c.vpc(ctx)
	if err != nil {
		return nil, err
	}
	wanted := make(map[string]bool, len(macs))
	for _, m := range macs {
		wanted[strings.ToLower(m)] = true
	}
	var out []provider.ENI
	for page := range pagesMax {
		var p struct{ NetworkInterfaceSet []eniItem }
		ask := describeENIs{Filters: []filter{{"vpc-id", []string{vpc}}}, Offset: page * pageSize, Limit: pageSize}
		if err := c.call(ctx, "DescribeNetworkInterfaces", ask, &p, repeatable); err != nil {
			return nil, err
		}
		for _, item := range p.NetworkInterfaceSet {
			if e := item.eni(); wanted[e.MAC] {
				out = append(out, e)
			}
		}
		if len(p.NetworkInterfaceSet) < pageSize {
			slices.SortFunc(out, func(a, b provider.ENI) int { return strings.Compare(a.ID, b.ID) })
			return slices.CompactFunc(out, func(a, b provider.ENI) bool { return a.ID == b.ID }), nil
		}
	}
	return nil, fmt.Errorf("tencent: VPC %s has more than %d network interfaces; those of the nodes are not looked for among so many", vpc, pagesMax*pageSize)
}
