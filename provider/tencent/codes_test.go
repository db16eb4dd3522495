package tencent

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"havip-cluster/jepsen/fakecloud"
	"havip-cluster/provider"
)

// What each action may be refused with reaches the caller with the cloud's own code, within the time, and what is not done
// is not taken for done.
func TestEachDocumentedRefusal(t *testing.T) {
	member := []provider.Member{{Type: provider.MemberCVM, ID: "ins-2"}}
	for action, do := range map[string]func(w *world, ctx context.Context, id string) error{
		"CreateHaVip": func(w *world, ctx context.Context, _ string) error {
			_, err := w.Create(ctx, provider.Spec{Name: "db", Address: netip.MustParseAddr("10.0.0.101"), VPC: "vpc-fake0001", Subnet: "subnet-a"}, "token-db")
			return err
		},
		"DeleteHaVip":          func(w *world, ctx context.Context, id string) error { return w.Delete(ctx, id, "t") },
		"ModifyHaVipAttribute": func(w *world, ctx context.Context, id string) error { return w.Rename(ctx, id, "other", "t") },
		"DescribeHaVips": func(w *world, ctx context.Context, _ string) error {
			_, err := w.Describe(ctx)
			return err
		},
		"AssociateHaVipInstance": func(w *world, ctx context.Context, id string) error { return w.AddRange(ctx, id, member, "t") },
		"DisassociateHaVipInstance": func(w *world, ctx context.Context, id string) error {
			return w.RemoveRange(ctx, id, []provider.Member{{Type: provider.MemberCVM, ID: "ins-1"}}, "t")
		},
		"HaVipAssociateAddressIp": func(w *world, ctx context.Context, id string) error {
			return w.BindEIP(ctx, id, netip.MustParseAddr("198.51.100.1"), "t")
		},
		"HaVipDisassociateAddressIp": func(w *world, ctx context.Context, id string) error {
			eip := netip.MustParseAddr("198.51.100.1")
			w.must(w.BindEIP(ctx, id, eip, "t"))
			return w.UnbindEIP(ctx, id, eip, "t")
		},
	} {
		codes := fakecloud.Codes[action]
		if len(codes) == 0 {
			t.Errorf("%s: no code is documented", action)
		}
		for _, code := range codes {
			w := newWorld(t, config())
			id := w.create("10.0.0.100").ID
			w.SetFault(fakecloud.Fault{Refuse: map[string]string{action: code}})
			pauses := 0
			w.Client.sleep = func(context.Context, time.Duration) error { // the time ends with the tenth
				if pauses++; pauses > 10 {
					return context.DeadlineExceeded
				}
				return nil
			}
			err := do(w, t.Context(), id)
			if !hasCode(err, code) {
				t.Errorf("%s refused with %s: %v", action, code, err)
			}
		}
	}
}
