package fakecloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

type filter struct {
	Name   string
	Values []string
}

// page is the part of a list that Offset and Limit name.
func page[T any](list []T, offset, limit *int) ([]T, *refusal) {
	from, most := 0, 20
	if offset != nil {
		from = *offset
	}
	if limit != nil {
		most = *limit
	}
	if most < 1 || most > 100 {
		return nil, refuse("InvalidParameterValue.Range", "Limit is 1 to 100, not %d", most)
	}
	if from < 0 {
		return nil, refuse("InvalidParameterValue.Range", "Offset is %d", from)
	}
	from = min(from, len(list))
	return list[from:min(from+most, len(list))], nil
}

func (c *Cloud) describeHAVIPs(body []byte, _ string) (map[string]any, *refusal) {
	var p struct {
		HaVipIds      []string
		Filters       []filter
		Offset, Limit *int
	}
	if no := decode(body, &p); no != nil {
		return nil, no
	}
	if p.HaVipIds != nil && p.Filters != nil {
		return nil, refuse("InvalidParameter.Coexist", "HaVipIds and Filters cannot be given together")
	}
	if len(p.HaVipIds) > 100 {
		return nil, refuse("InvalidParameterValue.LimitExceeded", "HaVipIds has %d ids, at most 100", len(p.HaVipIds))
	}
	for _, id := range p.HaVipIds {
		if !strings.HasPrefix(id, "havip-") {
			return nil, refuse("InvalidParameterValue.Malformed", "%q is no id of a HAVIP", id)
		}
	}
	list := []map[string]any{}
	for _, v := range c.sorted() {
		in := p.HaVipIds == nil || slices.Contains(p.HaVipIds, v.HaVipId)
		for _, f := range p.Filters {
			values, known := v.filtered(f.Name)
			if !known {
				return nil, refuse("InvalidParameter.FilterInvalidKey", "there is no filter %q", f.Name)
			}
			if slices.ContainsFunc(f.Values, tooLong) {
				return nil, refuse("InvalidParameterValue.TooLong", "a value of the filter %q has more than 60 characters", f.Name)
			}
			in = in && slices.ContainsFunc(values, func(s string) bool { return slices.Contains(f.Values, s) })
		}
		if in {
			list = append(list, c.view(v))
		}
	}
	shown, no := page(list, p.Offset, p.Limit)
	return map[string]any{"TotalCount": len(list), "HaVipSet": shown}, no
}

func tooLong(name string) bool { return utf8.RuneCountInString(name) > 60 }

// filtered are the values of a HAVIP that a filter looks at.
func (v *HAVIP) filtered(name string) (values []string, known bool) {
	switch name {
	case "havip-id":
		return []string{v.HaVipId}, true
	case "havip-name":
		return []string{v.HaVipName}, true
	case "vpc-id":
		return []string{v.VpcId}, true
	case "subnet-id":
		return []string{v.SubnetId}, true
	case "vip":
		return []string{v.Vip}, true
	case "address-ip":
		return []string{v.AddressIp}, true
	case "check-associate":
		return []string{strconv.FormatBool(v.CheckAssociate)}, true
	case "havip-association.instance-id", "havip-association.instance-type":
		for _, a := range v.HaVipAssociationSet {
			if values = append(values, a.InstanceId); strings.HasSuffix(name, "type") {
				values[len(values)-1] = a.InstanceType
			}
		}
		return values, true
	}
	return nil, false
}

// view is a HAVIP as the API shows it: what there is none of is null or empty, and the old model ends earlier.
func (c *Cloud) view(v *HAVIP) map[string]any {
	raw, _ := json.Marshal(v) // texts: it does not fail
	out := map[string]any{}
	_ = json.Unmarshal(raw, &out)
	if c.cfg.OldModel {
		for _, newer := range []string{"HaVipAssociationSet", "CheckAssociate", "FlushedTime"} {
			delete(out, newer)
		}
	}
	return out
}

type createParams struct {
	VpcId, HaVipName, SubnetId, Vip, NetworkInterfaceId string
	CheckAssociate                                      bool
	HaVipAssociationSet                                 []Association
	ClientToken                                         string
}

func (c *Cloud) createHAVIP(body []byte, _ string) (map[string]any, *refusal) {
	var p createParams
	if no := decode(body, &p); no != nil {
		return nil, no
	}
	if len(p.ClientToken) > 64 {
		return nil, refuse("InvalidParameterValue.TooLong", "ClientToken has at most 64 characters")
	}
	if m, again := c.tokens[p.ClientToken]; again && p.ClientToken != "" {
		if m.body != string(bytes.TrimSpace(body)) {
			return nil, refuse("UnsupportedOperation.IdempotentParameterMismatch", "the token was used with other parameters")
		}
		if v, there := c.havips[m.id]; there {
			return map[string]any{"HaVip": c.view(v)}, nil
		}
	}
	vip, no := c.mayCreate(p)
	if no != nil {
		return nil, no
	}
	v := &HAVIP{
		HaVipId: c.newID("havip"), HaVipName: p.HaVipName, Vip: vip, VpcId: p.VpcId, SubnetId: p.SubnetId, State: "UNBIND", CreatedTime: c.stamp(),
		CheckAssociate: p.CheckAssociate, FlushedTime: "0000-00-00 00:00:00", HaVipAssociationSet: []Association{},
	}
	if no := suits(p.HaVipAssociationSet); no != nil {
		return nil, no
	}
	for _, a := range p.HaVipAssociationSet {
		a.HaVipId = v.HaVipId
		if no := c.mayAssociate(v, a, v.HaVipAssociationSet); no != nil {
			return nil, no
		}
		v.HaVipAssociationSet = append(v.HaVipAssociationSet, a)
	}
	c.havips[v.HaVipId] = v
	if p.ClientToken != "" {
		c.tokens[p.ClientToken] = made{string(bytes.TrimSpace(body)), v.HaVipId}
	}
	return map[string]any{"HaVip": c.view(v)}, nil
}

// mayCreate checks, and chooses an address where none is given.
func (c *Cloud) mayCreate(p createParams) (vip string, no *refusal) {
	sub, there := c.subnet(p.SubnetId)
	switch {
	case p.HaVipName == "" || p.VpcId == "":
		return "", refuse("MissingParameter", "VpcId and HaVipName are required")
	case p.VpcId != c.cfg.VPC:
		return "", refuse("ResourceNotFound", "there is no VPC %s", p.VpcId)
	case !there:
		return "", refuse("UnsupportedOperation.SubnetNotExists", "there is no subnet %s", p.SubnetId)
	case tooLong(p.HaVipName):
		return "", refuse("InvalidParameterValue.TooLong", "HaVipName has more than 60 characters")
	case len(c.havips) >= c.cfg.Quota:
		return "", refuse("LimitExceeded", "the VPC has %d HAVIPs", len(c.havips))
	}
	if p.Vip != "" {
		ip, err := netip.ParseAddr(p.Vip)
		switch {
		case err != nil || !ip.Is4():
			return "", refuse("InvalidParameterValue.Malformed", "%q is no IPv4 address", p.Vip)
		case !sub.CIDR.Contains(ip):
			return "", refuse("InvalidParameterValue.Range", "%s is not in %s", ip, sub.CIDR)
		case reserved(sub.CIDR, ip):
			return "", refuse("InvalidParameterValue.Reserved", "%s is reserved", ip)
		case c.used(ip) != "":
			return "", refuse("ResourceInUse", "%s is used by %s", ip, c.used(ip))
		}
		return ip.String(), nil
	}
	for ip := sub.CIDR.Masked().Addr(); sub.CIDR.Contains(ip); ip = ip.Next() {
		if !reserved(sub.CIDR, ip) && c.used(ip) == "" {
			return ip.String(), nil
		}
	}
	return "", refuse("ResourceInsufficient", "no address is free in %s", sub.ID)
}

// reserved are the first two addresses of a subnet and the last.
func reserved(p netip.Prefix, ip netip.Addr) bool {
	first := p.Masked().Addr()
	return ip == first || ip == first.Next() || !p.Contains(ip.Next())
}

func (c *Cloud) used(ip netip.Addr) string {
	for _, e := range c.cfg.ENIs {
		if slices.Contains(e.Addresses, ip) {
			return e.ID
		}
	}
	for _, v := range c.havips {
		if v.Vip == ip.String() {
			return v.HaVipId
		}
	}
	return ""
}

// named finds a HAVIP.
func (c *Cloud) named(id string) (*HAVIP, *refusal) {
	if !strings.HasPrefix(id, "havip-") {
		return nil, refuse("InvalidParameterValue.Malformed", "%q is no id of a HAVIP", id)
	}
	v, there := c.havips[id]
	if !there {
		return nil, refuse("ResourceNotFound", "there is no HAVIP %s", id)
	}
	return v, nil
}

func (c *Cloud) deleteHAVIP(body []byte, request string) (map[string]any, *refusal) {
	var p struct{ HaVipId string }
	if no := decode(body, &p); no != nil {
		return nil, no
	}
	v, no := c.named(p.HaVipId)
	switch {
	case no != nil:
		return nil, no
	case v.AddressIp != "":
		return nil, refuse("UnsupportedOperation", "unbind EIP %s first", v.AddressIp)
	case v.busy:
		return nil, refuse("UnsupportedOperation.MutexOperationTaskRunning", "another task is at work")
	}
	v.busy = true
	c.begin(request, func() error { delete(c.havips, v.HaVipId); return nil })
	return nil, nil
}

func (c *Cloud) modifyHAVIP(body []byte, _ string) (map[string]any, *refusal) {
	var p struct{ HaVipId, HaVipName string }
	if no := decode(body, &p); no != nil {
		return nil, no
	}
	v, no := c.named(p.HaVipId)
	if no != nil {
		return nil, no
	}
	if tooLong(p.HaVipName) {
		return nil, refuse("InvalidParameterValue.TooLong", "HaVipName has more than 60 characters")
	}
	v.HaVipName = p.HaVipName
	return nil, nil
}

type associations struct{ HaVipAssociationSet []Association }

// set reads the parameters of both changes of a range.
func (c *Cloud) set(body []byte) (p associations, no *refusal) {
	if no := decode(body, &p); no != nil {
		return p, no
	}
	if len(p.HaVipAssociationSet) == 0 {
		return p, refuse("MissingParameter", "HaVipAssociationSet is required")
	}
	return p, suits(p.HaVipAssociationSet)
}

// suits says what is wrong with members by themselves.
func suits(members []Association) *refusal {
	if n := len(members); n > 10 {
		return refuse("LimitExceeded", "HaVipAssociationSet has %d members, at most 10", n)
	}
	seen := map[Association]bool{}
	for _, a := range members {
		if seen[a] {
			return refuse("InvalidParameterValue.Duplicate", "%s is named twice", a.InstanceId)
		}
		seen[a] = true
		if a.InstanceType != "CVM" && a.InstanceType != "ENI" || a.InstanceType == "CVM" != strings.HasPrefix(a.InstanceId, "ins-") {
			return refuse("InvalidParameterValue.ParameterMismatch", "%s is not of type %s", a.InstanceId, a.InstanceType)
		}
	}
	return nil
}

func (c *Cloud) associate(body []byte, _ string) (map[string]any, *refusal) {
	p, no := c.set(body)
	if no != nil {
		return nil, no
	}
	added := map[string][]Association{}
	for _, a := range p.HaVipAssociationSet {
		v, no := c.named(a.HaVipId)
		if no != nil {
			return nil, no
		}
		now := append(slices.Clone(v.HaVipAssociationSet), added[v.HaVipId]...)
		if no := c.mayAssociate(v, a, now); no != nil {
			return nil, no
		}
		added[v.HaVipId] = append(added[v.HaVipId], a)
	}
	for id, list := range added { // all or nothing
		c.havips[id].HaVipAssociationSet = append(c.havips[id].HaVipAssociationSet, list...)
	}
	return nil, nil
}

func (c *Cloud) mayAssociate(v *HAVIP, a Association, now []Association) *refusal {
	has := func(e ENI) bool { return e.ID == a.InstanceId || e.Instance == a.InstanceId }
	i := slices.IndexFunc(c.cfg.ENIs, has)
	switch {
	case i < 0:
		return refuse("ResourceNotFound", "there is no %s %s", a.InstanceType, a.InstanceId)
	case slices.Contains(now, a):
		return refuse("InvalidParameterValue.DuplicatedHaVipAssociations", "%s and %s are associated already", v.HaVipId, a.InstanceId)
	case len(now) > 0 && now[0].InstanceType != a.InstanceType:
		return refuse("InvalidParameterValue", "the range of %s is of type %s", v.HaVipId, now[0].InstanceType)
	case len(now) >= 10:
		return refuse("LimitExceeded", "the range of %s has %d members", v.HaVipId, len(now))
	case a.InstanceType == "ENI" && (c.cfg.ENIs[i].Primary || c.cfg.ENIs[i].Instance == ""):
		return refuse("InvalidParameterValue", "%s is a primary ENI, or attached to no instance", a.InstanceId)
	case !slices.ContainsFunc(c.cfg.ENIs, func(e ENI) bool { return has(e) && e.Subnet == v.SubnetId }):
		return refuse("InvalidParameterValue", "%s has no ENI in %s", a.InstanceId, v.SubnetId)
	}
	return nil
}

func (c *Cloud) disassociate(body []byte, _ string) (map[string]any, *refusal) {
	p, no := c.set(body)
	if no != nil {
		return nil, no
	}
	for _, a := range p.HaVipAssociationSet {
		v, no := c.named(a.HaVipId)
		if no != nil {
			return nil, no
		}
		if !slices.Contains(v.HaVipAssociationSet, a) {
			return nil, refuse("ResourceNotFound", "%s is not in the range of %s", a.InstanceId, v.HaVipId)
		}
	}
	for _, a := range p.HaVipAssociationSet {
		v := c.havips[a.HaVipId]
		v.HaVipAssociationSet = slices.DeleteFunc(v.HaVipAssociationSet, func(b Association) bool { return a == b })
	}
	return nil, nil
}

func (c *Cloud) bindEIP(body []byte, request string) (map[string]any, *refusal) {
	var p struct{ HaVipId, AddressIp string }
	if no := decode(body, &p); no != nil {
		return nil, no
	}
	v, no := c.named(p.HaVipId)
	holder, known := c.eips[p.AddressIp]
	switch {
	case no != nil:
		return nil, no
	case v.busy:
		return nil, refuse("UnsupportedOperation.MutexOperationTaskRunning", "another task is at work")
	case v.AddressIp != "":
		return nil, refuse("UnsupportedOperation.BindEIP", "%s has EIP %s", v.HaVipId, v.AddressIp)
	case !known:
		return nil, refuse("ResourceNotFound", "there is no EIP %s", p.AddressIp)
	case holder != "":
		return nil, refuse("UnsupportedOperation", "EIP %s is bound to %s", p.AddressIp, holder)
	}
	v.busy, c.eips[p.AddressIp] = true, v.HaVipId
	c.begin(request, func() error { v.busy, v.AddressIp = false, p.AddressIp; return nil })
	return nil, nil
}

func (c *Cloud) unbindEIP(body []byte, request string) (map[string]any, *refusal) {
	var p struct{ HaVipId string }
	if no := decode(body, &p); no != nil {
		return nil, no
	}
	v, no := c.named(p.HaVipId)
	switch {
	case no != nil:
		return nil, no
	case v.busy:
		return nil, refuse("UnsupportedOperation.MutexOperationTaskRunning", "another task is at work")
	case v.AddressIp == "":
		return nil, refuse("UnsupportedOperation.UnbindEIP", "%s has no EIP", v.HaVipId)
	}
	v.busy = true
	c.begin(request, func() error { c.eips[v.AddressIp] = ""; v.busy, v.AddressIp = false, ""; return nil })
	return nil, nil
}

func (c *Cloud) taskResult(body []byte, _ string) (map[string]any, *refusal) {
	var p struct{ TaskId string }
	if no := decode(body, &p); no != nil {
		return nil, no
	}
	t, there := c.tasks[p.TaskId]
	if !there {
		return nil, refuse("ResourceNotFound", "there is no task %s", p.TaskId)
	}
	return map[string]any{"Status": t.status, "Output": t.output, "Result": []any{}}, nil
}

func (c *Cloud) describeENIs(body []byte, _ string) (map[string]any, *refusal) {
	var p struct {
		NetworkInterfaceIds []string
		Filters             []filter
		Offset, Limit       *int
	}
	if no := decode(body, &p); no != nil {
		return nil, no
	}
	if p.NetworkInterfaceIds != nil && p.Filters != nil {
		return nil, refuse("InvalidParameter.Coexist", "ids and Filters cannot be given together")
	}
	list := []map[string]any{}
	for _, e := range c.cfg.ENIs {
		in := p.NetworkInterfaceIds == nil || slices.Contains(p.NetworkInterfaceIds, e.ID)
		for _, f := range p.Filters {
			value, known := map[string]string{"vpc-id": c.cfg.VPC, "subnet-id": e.Subnet, "network-interface-id": e.ID, "attachment.instance-id": e.Instance}[f.Name]
			if !known {
				return nil, refuse("InvalidParameter.FilterInvalidKey", "there is no filter %q", f.Name)
			}
			in = in && slices.Contains(f.Values, value)
		}
		if in {
			list = append(list, c.eniView(e))
		}
	}
	shown, no := page(list, p.Offset, p.Limit)
	return map[string]any{"TotalCount": len(list), "NetworkInterfaceSet": shown}, no
}

func (c *Cloud) eniView(e ENI) map[string]any {
	state, attachment := "AVAILABLE", any(nil)
	if e.Instance != "" {
		state, attachment = "INUSE", map[string]any{"InstanceId": e.Instance, "DeviceIndex": 0, "AttachTime": "2026-01-01 00:00:00"}
	}
	addresses := []map[string]any{}
	for i, a := range e.Addresses {
		addresses = append(addresses, map[string]any{"PrivateIpAddress": a.String(), "Primary": i == 0})
	}
	return map[string]any{
		"NetworkInterfaceId": e.ID, "NetworkInterfaceName": fmt.Sprint(e.ID), "MacAddress": c.mac(e), "VpcId": c.cfg.VPC, "SubnetId": e.Subnet, "State": state,
		"Zone": c.cfg.Zone, "Primary": e.Primary, "Attachment": attachment, "PrivateIpAddressSet": addresses,
	}
}
