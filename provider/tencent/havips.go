package tencent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"havip-cluster/provider"
)

// filter narrows a listing. A listing takes filters or ids, never both.
type filter struct {
	Name   string
	Values []string
}

type describe struct {
	HaVipIds []string `json:",omitempty"`
	Filters  []filter `json:",omitempty"`
	Offset   int
	Limit    int
}

type havipPage struct {
	TotalCount int
	HaVipSet   []havipItem
}

// havipItem is a HAVIP in the API's words. Any of them may be null; the international site has only those down to
// CreatedTime.
type havipItem struct {
	HaVipId, HaVipName, Vip, VpcId, SubnetId *string
	NetworkInterfaceId, InstanceId           *string
	AddressIp, State, CreatedTime            *string
	HaVipAssociationSet                      []association
	CheckAssociate                           *bool
	FlushedTime                              *string
}

// association is a member of the range of a HAVIP.
type association struct {
	InstanceId   string
	HaVipId      string
	InstanceType string
}

// neverFlushed is what FlushedTime says when there was no flush.
const neverFlushed = "0000-00-00 00:00:00"

// observed translates an item. An address that cannot be read is the zero one.
func (i havipItem) observed() provider.Observed {
	o := provider.Observed{
		ID: deref(i.HaVipId), Name: deref(i.HaVipName), VPC: deref(i.VpcId), Subnet: deref(i.SubnetId), State: deref(i.State),
		ENI: deref(i.NetworkInterfaceId), Instance: deref(i.InstanceId), Enforced: i.CheckAssociate,
		RangeKnown: i.HaVipAssociationSet != nil || i.CheckAssociate != nil,
	}
	o.Address, _ = netip.ParseAddr(deref(i.Vip))
	o.EIP, _ = netip.ParseAddr(deref(i.AddressIp))
	if t := deref(i.FlushedTime); t != neverFlushed {
		o.Flushed = t
	}
	for _, a := range i.HaVipAssociationSet {
		o.Range = append(o.Range, provider.Member{Type: cmp.Or(a.InstanceType, provider.MemberCVM), ID: a.InstanceId})
	}
	slices.SortFunc(o.Range, compareMembers)
	return o
}

func compareMembers(a, b provider.Member) int {
	return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.ID, b.ID))
}

// deref is a text of others: clipped, and "" where there is none.
func deref(s *string) string {
	if s == nil {
		return ""
	}
	return clip(*s, 256)
}

// Describe implements provider.Describer.
func (c *Client) Describe(ctx context.Context) ([]provider.Observed, error) {
	vpc, err := c.vpc(ctx)
	if err != nil {
		return nil, err
	}
	var out []provider.Observed
	for page := range pagesMax {
		var p havipPage
		ask := describe{Filters: []filter{{"vpc-id", []string{vpc}}}, Offset: page * pageSize, Limit: pageSize}
		if err := c.call(ctx, "DescribeHaVips", ask, &p, repeatable); err != nil {
			return nil, err
		}
		for _, item := range p.HaVipSet {
			out = append(out, item.observed())
		}
		if len(p.HaVipSet) < pageSize {
			slices.SortFunc(out, func(a, b provider.Observed) int {
				return cmp.Or(a.Address.Compare(b.Address), strings.Compare(a.ID, b.ID))
			})
			return slices.CompactFunc(out, func(a, b provider.Observed) bool { return a.ID == b.ID }), nil // one that moved to the next page meanwhile
		}
	}
	return nil, fmt.Errorf("tencent: VPC %s has more than %d HAVIPs", vpc, pagesMax*pageSize)
}

// one is a HAVIP by its id; there is false when the cloud does not have it.
func (c *Client) one(ctx context.Context, id string) (o provider.Observed, there bool, err error) {
	var p havipPage
	err = c.call(ctx, "DescribeHaVips", describe{HaVipIds: []string{id}, Limit: 1}, &p, repeatable)
	if notFound(err) || err == nil && len(p.HaVipSet) == 0 {
		return provider.Observed{}, false, nil
	}
	if err != nil {
		return provider.Observed{}, false, err
	}
	return p.HaVipSet[0].observed(), true, nil
}

// tokenMax bounds a ClientToken, in ASCII characters.
const tokenMax = 64

// Create implements provider.Provisioner. It alone carries a ClientToken: the API documents none for the other changes and
// refuses what it does not know, so those are made repeatable by looking first (change).
func (c *Client) Create(ctx context.Context, s provider.Spec, token string) (provider.Observed, error) {
	if len(token) == 0 || len(token) > tokenMax {
		return provider.Observed{}, fmt.Errorf("tencent: a token has 1 to %d characters, this one %d", tokenMax, len(token))
	}
	var answer struct{ HaVip havipItem }
	err := c.call(ctx, "CreateHaVip", struct {
		VpcId, SubnetId, HaVipName string
		Vip                        string `json:",omitempty"`
		CheckAssociate             bool
		ClientToken                string
	}{s.VPC, s.Subnet, string([]rune(s.Name)[:min(nameMax, len([]rune(s.Name)))]), s.Address.String(), s.Enforced, token}, &answer, repeatable)
	if err != nil {
		return provider.Observed{}, err
	}
	made := answer.HaVip.observed()
	if len(s.Range) > 0 {
		if err := c.AddRange(ctx, made.ID, s.Range, token); err != nil {
			return made, fmt.Errorf("%s was made, its range was not: %w", made.ID, err)
		}
	}
	return made, nil
}

// Delete implements provider.Provisioner.
func (c *Client) Delete(ctx context.Context, id, _ string) error {
	return c.change(ctx, "DeleteHaVip", struct{ HaVipId string }{id}, id, func(_ provider.Observed, there bool) bool { return !there })
}

// Rename implements provider.Provisioner.
func (c *Client) Rename(ctx context.Context, id, name, _ string) error {
	return c.change(ctx, "ModifyHaVipAttribute", struct{ HaVipId, HaVipName string }{id, name}, id,
		func(o provider.Observed, there bool) bool { return there && o.Name == name })
}

// AddRange implements provider.Provisioner.
func (c *Client) AddRange(ctx context.Context, id string, members []provider.Member, _ string) error {
	return c.ranges(ctx, "AssociateHaVipInstance", id, members, func(o provider.Observed, m provider.Member) bool { return slices.Contains(o.Range, m) })
}

// RemoveRange implements provider.Provisioner.
func (c *Client) RemoveRange(ctx context.Context, id string, members []provider.Member, _ string) error {
	return c.ranges(ctx, "DisassociateHaVipInstance", id, members, func(o provider.Observed, m provider.Member) bool { return !slices.Contains(o.Range, m) })
}

// ranges changes a range in pieces of membersMax. The API refuses a piece in which one member is as wanted already, so
// only the others are sent.
func (c *Client) ranges(ctx context.Context, action, id string, members []provider.Member, is func(provider.Observed, provider.Member) bool) error {
	for piece := range slices.Chunk(members, membersMax) {
		err := c.changeBy(ctx, action, id, func(o provider.Observed, there bool) (any, bool, error) {
			if !there {
				return nil, false, &provider.Error{Code: "ResourceNotFound", Message: "the cloud has no HAVIP " + id}
			}
			var todo struct{ HaVipAssociationSet []association }
			for _, m := range piece {
				if !is(o, m) {
					todo.HaVipAssociationSet = append(todo.HaVipAssociationSet, association{m.ID, id, m.Type})
				}
			}
			return todo, len(todo.HaVipAssociationSet) == 0, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// BindEIP implements provider.EIPBinder. It is refused while the HAVIP has another one.
func (c *Client) BindEIP(ctx context.Context, id string, eip netip.Addr, _ string) error {
	return c.change(ctx, "HaVipAssociateAddressIp", struct{ HaVipId, AddressIp string }{id, eip.String()}, id,
		func(o provider.Observed, there bool) bool { return there && o.EIP == eip })
}

// UnbindEIP implements provider.EIPBinder. The call names no EIP, so it is sent only after a look that shows it.
func (c *Client) UnbindEIP(ctx context.Context, id string, eip netip.Addr, _ string) error {
	return c.change(ctx, "HaVipDisassociateAddressIp", struct{ HaVipId string }{id}, id,
		func(o provider.Observed, there bool) bool { return there && o.EIP != eip })
}

// change has the cloud make a HAVIP as done wants it.
func (c *Client) change(ctx context.Context, action string, params any, id string, done func(o provider.Observed, there bool) bool) error {
	return c.changeBy(ctx, action, id, func(o provider.Observed, there bool) (any, bool, error) {
		return params, done(o, there), nil
	})
}

// changeBy looks, calls and looks again until a look shows what is wanted, the cloud refuses, or ctx ends. plan says
// what to send, or that nothing is left to do. A call whose answer was lost is judged by the look after it, so that
// nothing is done twice.
func (c *Client) changeBy(ctx context.Context, action, id string, plan func(o provider.Observed, there bool) (params any, done bool, err error)) error {
	pause, sent := taskPoll, false
	var hindered error // why the newest call was not done
	late := func(err error) error {
		if hindered != nil {
			err = fmt.Errorf("%w (%w)", hindered, err)
		}
		return fmt.Errorf("tencent: %s of %s: the cloud has not done it within the time: %w", action, id, err)
	}
	for {
		o, there, err := c.one(ctx, id)
		if err != nil && ctx.Err() != nil {
			return late(err)
		}
		if err != nil {
			return err
		}
		params, done, err := plan(o, there)
		if done || err != nil {
			return err
		}
		if !sent {
			var answer struct{ RequestId string }
			err = c.call(ctx, action, params, &answer, once)
			switch {
			case err == nil:
				sent, hindered = true, nil
				if err := c.follow(ctx, answer.RequestId); err != nil {
					return named(action, err)
				}
			case !hasCode(err, "UnsupportedOperation.MutexOperationTaskRunning") && !errors.Is(err, provider.ErrUnavailable):
				return err
			default:
				hindered = err
			}
		}
		if err := c.sleep(ctx, pause); err != nil {
			return late(err)
		}
		pause = min(2*pause, taskPollMax)
	}
}

// follow waits for the end of what a call has begun. A call that was done at once has no task.
func (c *Client) follow(ctx context.Context, task string) error {
	pause := taskPoll
	for task != "" {
		var r struct{ Status, Output string }
		err := c.call(ctx, "DescribeVpcTaskResult", struct{ TaskId string }{task}, &r, repeatable)
		switch {
		case notFound(err), err == nil && r.Status == "SUCCESS":
			return nil
		case err != nil:
			return err
		case r.Status == "FAILED":
			return &provider.Error{Code: "FAILED", Message: "the cloud began it and could not do it: " + clip(r.Output, 200), Request: clip(task, 64)}
		}
		if err := c.sleep(ctx, pause); err != nil {
			return fmt.Errorf("task %s is still %s: %w", clip(task, 64), clip(r.Status, 32), err)
		}
		pause = min(2*pause, taskPollMax)
	}
	return nil
}
