package fakecloud

import (
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

// query is what both lists are asked with.
type query struct {
	Filters       []filter
	Offset, Limit *int
}

// selected is the part of a list that a query asks for, as the API shows it, under name. filtered are the values of
// one that a filter looks at.
func selected[T any](name string, list []T, ids []string, id func(T) string, q query, filtered func(T, string) ([]string, bool), view func(T) map[string]any) (map[string]any, *refusal) {
	if ids != nil && q.Filters != nil {
		return nil, refuse("InvalidParameter.Coexist", "ids and Filters cannot be given together")
	}
	out := []map[string]any{}
	for _, v := range list {
		in := ids == nil || slices.Contains(ids, id(v))
		for _, f := range q.Filters {
			values, known := filtered(v, f.Name)
			if !known {
				return nil, refuse("InvalidParameter.FilterInvalidKey", "there is no filter %q", f.Name)
			}
			if slices.ContainsFunc(f.Values, tooLong) {
				return nil, refuse("InvalidParameterValue.TooLong", "a value of the filter %q has more than 60 characters", f.Name)
			}
			in = in && slices.ContainsFunc(values, func(s string) bool { return slices.Contains(f.Values, s) })
		}
		if in {
			out = append(out, view(v))
		}
	}
	shown, no := page(out, q.Offset, q.Limit)
	return map[string]any{"TotalCount": len(out), name: shown}, no
}

type havipsQuery struct {
	HaVipIds []string
	query
}

func (c *Cloud) describeHAVIPs(p havipsQuery, _ request) (map[string]any, *refusal) {
	if len(p.HaVipIds) > 100 {
		return nil, refuse("InvalidParameterValue.LimitExceeded", "HaVipIds has %d ids, at most 100", len(p.HaVipIds))
	}
	for _, id := range p.HaVipIds {
		if no := isHAVIP(id); no != nil {
			return nil, no
		}
	}
	return selected("HaVipSet", c.sorted(), p.HaVipIds, func(v *HAVIP) string { return v.HaVipId }, p.query, (*HAVIP).filtered, c.view)
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

func (c *Cloud) createHAVIP(p createParams, r request) (map[string]any, *refusal) {
	if len(p.ClientToken) > 64 {
		return nil, refuse("InvalidParameterValue.TooLong", "ClientToken has at most 64 characters")
	}
	if m, again := c.tokens[p.ClientToken]; again && p.ClientToken != "" {
		if m.body != string(r.body) {
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
		c.tokens[p.ClientToken] = made{string(r.body), v.HaVipId}
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

func isHAVIP(id string) *refusal {
	if !strings.HasPrefix(id, "havip-") {
		return refuse("InvalidParameterValue.Malformed", "%q is no id of a HAVIP", id)
	}
	return nil
}

// named finds a HAVIP.
func (c *Cloud) named(id string) (*HAVIP, *refusal) {
	if no := isHAVIP(id); no != nil {
		return nil, no
	}
	v, there := c.havips[id]
	if !there {
		return nil, refuse("ResourceNotFound", "there is no HAVIP %s", id)
	}
	return v, nil
}

// What is done to one HAVIP has these parameters.
type (
	havipOnly    struct{ HaVipId string }
	havipAndName struct{ HaVipId, HaVipName string }
	havipAndEIP  struct{ HaVipId, AddressIp string }
)

// idle finds the HAVIP of a task: no other one may be at work on it.
func (c *Cloud) idle(id string) (*HAVIP, *refusal) {
	v, no := c.named(id)
	if no == nil && v.busy {
		no = refuse("UnsupportedOperation.MutexOperationTaskRunning", "another task is at work")
	}
	return v, no
}

// task does something to an idle HAVIP later.
func (c *Cloud) task(v *HAVIP, r request, do func()) (map[string]any, *refusal) {
	v.busy = true
	c.begin(r.id, func() error { v.busy = false; do(); return nil })
	return nil, nil
}

func (c *Cloud) deleteHAVIP(p havipOnly, r request) (map[string]any, *refusal) {
	v, no := c.idle(p.HaVipId)
	switch {
	case no != nil:
		return nil, no
	case v.AddressIp != "":
		return nil, refuse("UnsupportedOperation", "unbind EIP %s first", v.AddressIp)
	}
	return c.task(v, r, func() { delete(c.havips, v.HaVipId) })
}

func (c *Cloud) modifyHAVIP(p havipAndName, _ request) (map[string]any, *refusal) {
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

// check refuses what neither change of a range takes.
func (p associations) check() *refusal {
	if len(p.HaVipAssociationSet) == 0 {
		return refuse("MissingParameter", "HaVipAssociationSet is required")
	}
	return suits(p.HaVipAssociationSet)
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

func (c *Cloud) associate(p associations, _ request) (map[string]any, *refusal) {
	if no := p.check(); no != nil {
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

func (c *Cloud) disassociate(p associations, _ request) (map[string]any, *refusal) {
	if no := p.check(); no != nil {
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

func (c *Cloud) bindEIP(p havipAndEIP, r request) (map[string]any, *refusal) {
	v, no := c.idle(p.HaVipId)
	holder, known := c.eips[p.AddressIp]
	switch {
	case no != nil:
		return nil, no
	case v.AddressIp != "":
		return nil, refuse("UnsupportedOperation.BindEIP", "%s has EIP %s", v.HaVipId, v.AddressIp)
	case !known:
		return nil, refuse("ResourceNotFound", "there is no EIP %s", p.AddressIp)
	case holder != "":
		return nil, refuse("UnsupportedOperation", "EIP %s is bound to %s", p.AddressIp, holder)
	}
	c.eips[p.AddressIp] = v.HaVipId
	return c.task(v, r, func() { v.AddressIp = p.AddressIp })
}

func (c *Cloud) unbindEIP(p havipOnly, r request) (map[string]any, *refusal) {
	v, no := c.idle(p.HaVipId)
	switch {
	case no != nil:
		return nil, no
	case v.AddressIp == "":
		return nil, refuse("UnsupportedOperation.UnbindEIP", "%s has no EIP", v.HaVipId)
	}
	return c.task(v, r, func() { c.eips[v.AddressIp] = ""; v.AddressIp = "" })
}

func (c *Cloud) taskResult(p struct{ TaskId string }, _ request) (map[string]any, *refusal) {
	t, there := c.tasks[p.TaskId]
	if !there {
		return nil, refuse("ResourceNotFound", "there is no task %s", p.TaskId)
	}
	return map[string]any{"Status": t.status, "Output": t.output, "Result": []any{}}, nil
}

type enisQuery struct {
	NetworkInterfaceIds []string
	query
}

func (c *Cloud) describeENIs(p enisQuery, _ request) (map[string]any, *refusal) {
	filtered := func(e ENI, name string) ([]string, bool) {
		value, known := map[string]string{"vpc-id": c.cfg.VPC, "subnet-id": e.Subnet, "network-interface-id": e.ID, "attachment.instance-id": e.Instance}[name]
		return []string{value}, known
	}
	return selected("NetworkInterfaceSet", c.cfg.ENIs, p.NetworkInterfaceIds, func(e ENI) string { return e.ID }, p.query, filtered, c.eniView)
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
