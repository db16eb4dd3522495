package aws

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"havip-cluster/provider"
)

const (
	// filterMax is how many values a filter of one request has: the API's bound is 200.
	filterMax = 200
	// findMax is how many addresses one look asks about; those beyond it are not seen.
	findMax = 2000
	// pagesMax bounds the pages of one answer.
	pagesMax = 20
)

var (
	_ provider.Finder    = (*Provider)(nil)
	_ provider.Inventory = (*Provider)(nil)
)

// interfaces is the answer of DescribeNetworkInterfaces (EC2 API reference, "NetworkInterface").
type interfaces struct {
	XMLName xml.Name `xml:"DescribeNetworkInterfacesResponse"`
	Next    string   `xml:"nextToken"`
	Set     []struct {
		ID         string `xml:"networkInterfaceId"`
		Subnet     string `xml:"subnetId"`
		VPC        string `xml:"vpcId"`
		Zone       string `xml:"availabilityZone"`
		MAC        string `xml:"macAddress"`
		Status     string `xml:"status"`
		Attachment struct {
			Instance string `xml:"instanceId"`
			Device   int    `xml:"deviceIndex"`
		} `xml:"attachment"`
		Addresses []struct {
			Address string `xml:"privateIpAddress"`
			Primary bool   `xml:"primary"`
			Public  string `xml:"association>publicIp"`
		} `xml:"privateIpAddressesSet>item"`
	} `xml:"networkInterfaceSet>item"`
}

// vpc is that of this instance's first interface.
func (p *Provider) vpc(ctx context.Context) (string, error) {
	mac, err := p.meta.get(ctx, "mac")
	if err != nil {
		return "", err
	}
	return p.meta.ofMAC(ctx, strings.TrimSpace(mac), "vpc-id")
}

// describe asks for the interfaces of this host's VPC that one of the values is true of, filterMax values at a time.
func (p *Provider) describe(ctx context.Context, filter string, values []string, each func(*interfaces) error) error {
	vpc, err := p.vpc(ctx)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(values, filterMax) {
		ask := url.Values{"Filter.1.Name": {"vpc-id"}, "Filter.1.Value.1": {vpc}, "Filter.2.Name": {filter}}
		for i, v := range part {
			ask.Set("Filter.2.Value."+strconv.Itoa(i+1), v)
		}
		for page := 0; ; page++ {
			var answer interfaces
			if err := p.call(ctx, "DescribeNetworkInterfaces", ask, &answer); err != nil {
				return err
			}
			if err := each(&answer); err != nil {
				return err
			}
			if answer.Next == "" {
				break
			}
			if page == pagesMax {
				return fmt.Errorf("aws: DescribeNetworkInterfaces: the answer has more than %d pages", pagesMax)
			}
			ask.Set("NextToken", answer.Next)
		}
	}
	return nil
}

// Find implements provider.Finder: which interface of the VPC has each address. One that none has is Unbound.
func (p *Provider) Find(ctx context.Context, addresses []netip.Addr) ([]provider.Observed, error) {
	out := map[netip.Addr]provider.Observed{}
	var ask []string
	for _, a := range addresses {
		if a.Is4() && len(ask) < findMax {
			ask = append(ask, a.String())
			out[a] = provider.Observed{Address: a, State: provider.Unbound}
		}
	}
	err := p.describe(ctx, "addresses.private-ip-address", ask, func(answer *interfaces) error {
		for _, e := range answer.Set {
			for _, one := range e.Addresses {
				a, err := netip.ParseAddr(one.Address)
				if err != nil {
					return fmt.Errorf("aws: DescribeNetworkInterfaces: %q of %s is no address", one.Address, e.ID)
				}
				if _, asked := out[a]; !asked {
					continue
				}
				o := provider.Observed{ID: e.ID, Address: a, VPC: e.VPC, Subnet: e.Subnet, State: provider.Available, ENI: e.ID, Instance: e.Attachment.Instance}
				o.EIP, _ = netip.ParseAddr(one.Public) // absent: none
				out[a] = o
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	list := make([]provider.Observed, 0, len(out))
	for _, o := range out {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b provider.Observed) int { return a.Address.Compare(b.Address) })
	return list, nil
}

// ENIs implements provider.Inventory.
func (p *Provider) ENIs(ctx context.Context, macs []string) ([]provider.ENI, error) {
	ask := make([]string, 0, len(macs))
	for _, m := range macs {
		ask = append(ask, strings.ToLower(m))
	}
	var out []provider.ENI
	err := p.describe(ctx, "mac-address", ask, func(answer *interfaces) error {
		for _, e := range answer.Set {
			one := provider.ENI{ID: e.ID, MAC: strings.ToLower(e.MAC), Instance: e.Attachment.Instance, VPC: e.VPC, Subnet: e.Subnet, Zone: e.Zone, State: e.Status, Primary: e.Attachment.Instance != "" && e.Attachment.Device == 0}
			for _, a := range e.Addresses {
				if ip, err := netip.ParseAddr(a.Address); err == nil {
					one.Addresses = append(one.Addresses, ip)
				}
			}
			slices.SortFunc(one.Addresses, netip.Addr.Compare)
			out = append(out, one)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b provider.ENI) int { return strings.Compare(a.ID, b.ID) })
	return out, err
}
