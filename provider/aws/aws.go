package aws

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"havip-cluster/provider"
)

// Provider is Amazon's VPC, as one instance sees it.
type Provider struct {
	cfg  provider.AWS
	meta *metadata
	http *http.Client

	mu    sync.Mutex
	where string            // the region
	enis  map[string]string // ids, by MAC
}

// enisMax bounds what is remembered: more than an instance has.
const enisMax = 64

var (
	_ provider.Provider = (*Provider)(nil)
	_ provider.Claimer  = (*Provider)(nil)
)

// New makes one. It asks nobody.
func New(cfg provider.AWS) (*Provider, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	return &Provider{cfg: cfg, meta: newMetadata(cfg.Metadata), http: &http.Client{Timeout: apiWait, CheckRedirect: stay}, where: cfg.Region, enis: map[string]string{}}, nil
}

// Kind implements provider.Provider.
func (p *Provider) Kind() string { return provider.KindAWS }

// Caps implements provider.Provider.
func (p *Provider) Caps() provider.Capabilities {
	return provider.Capabilities{Describe: true, ClaimByAPI: true, Async: true}
}

// region is that of the configuration, else of this instance.
func (p *Provider) region(ctx context.Context) (string, error) {
	p.mu.Lock()
	region := p.where
	p.mu.Unlock()
	if region != "" {
		return region, nil
	}
	region, err := p.meta.get(ctx, "placement/region")
	if err != nil {
		return "", err
	}
	region = strings.TrimSpace(region)
	p.mu.Lock()
	p.where = region
	p.mu.Unlock()
	return region, nil
}

// eni is the id of an interface, which it keeps for its life.
func (p *Provider) eni(ctx context.Context, mac string) (string, error) {
	p.mu.Lock()
	id := p.enis[mac]
	p.mu.Unlock()
	if id != "" {
		return id, nil
	}
	id, err := p.meta.ofMAC(ctx, mac, "interface-id")
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.enis) >= enisMax {
		clear(p.enis)
	}
	p.enis[mac] = id
	return id, nil
}

// errFamily is returned for IPv6: AssignIpv6Addresses knows no reassignment.
var errFamily = errors.New("aws: only IPv4 addresses are reassigned by one call; give the HAVIP an IPv4 address")

// Claim implements provider.Claimer. The answer says that the request was taken; the address moves later.
func (p *Provider) Claim(ctx context.Context, c provider.Claim) error {
	if !c.Address.Is4() {
		return fmt.Errorf("%w (it has %v)", errFamily, c.Address)
	}
	eni, err := p.eni(ctx, c.MAC)
	if err != nil {
		return err
	}
	var answer struct {
		XMLName xml.Name `xml:"AssignPrivateIpAddressesResponse"`
		Return  *bool    `xml:"return"`
	}
	err = p.call(ctx, "AssignPrivateIpAddresses", url.Values{
		"NetworkInterfaceId": {eni}, "PrivateIpAddress.1": {c.Address.String()}, "AllowReassignment": {"true"},
	}, &answer)
	switch {
	case err != nil:
		p.mu.Lock()
		delete(p.enis, c.MAC) // the interface may be another one by now
		p.mu.Unlock()
		return err
	case answer.Return != nil && !*answer.Return:
		return errors.New("aws: AssignPrivateIpAddresses: the answer says that it was not done")
	}
	return nil
}

// Where implements provider.Claimer: the instance's metadata service lists the addresses of its interfaces.
func (p *Provider) Where(ctx context.Context, c provider.Claim) (provider.Place, error) {
	list, err := p.meta.addresses(ctx, c.MAC)
	if err != nil {
		return provider.Place{}, err
	}
	if slices.Contains(list, c.Address) {
		return provider.Place{Here: true, Where: c.MAC}, nil
	}
	return provider.Place{Where: "an interface other than that with the MAC " + c.MAC}, nil
}

// Release implements provider.Claimer. The next owner takes the address; taken away before, it would be
// nobody's for a while, and another instance might be given it.
func (p *Provider) Release(context.Context, provider.Claim) error { return nil }

// Test implements provider.Provider: it asks about this instance's first interface.
func (p *Provider) Test(ctx context.Context) (self provider.Self, err error) {
	if self.Region, err = p.region(ctx); err != nil {
		return self, err
	}
	_, self.Credentials, err = p.meta.credentials(ctx, p.cfg.Role)
	if err != nil {
		return self, err
	}
	for path, to := range map[string]*string{"instance-id": &self.Instance, "placement/availability-zone": &self.Zone} {
		if *to, err = p.meta.get(ctx, path); err != nil {
			return self, err
		}
	}
	mac, err := p.meta.get(ctx, "mac")
	if err != nil {
		return self, err
	}
	mac = strings.TrimSpace(mac)
	if self.VPC, err = p.meta.ofMAC(ctx, mac, "vpc-id"); err != nil {
		return self, err
	}
	eni, err := p.eni(ctx, mac)
	if err != nil {
		return self, err
	}
	self.Endpoint = p.cfg.Endpoint
	var answer struct {
		XMLName xml.Name `xml:"DescribeNetworkInterfacesResponse"`
	}
	return self, p.call(ctx, "DescribeNetworkInterfaces", url.Values{"NetworkInterfaceId.1": {eni}}, &answer)
}
