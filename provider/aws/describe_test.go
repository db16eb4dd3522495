package aws

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"havip-cluster/provider"
)

// The cloud says which interface has an address, whosever it is, and which elastic one is bound to it.
func TestFind(t *testing.T) {
	f := newFake(t)
	f.publics = map[string]string{"10.0.0.100": "198.51.100.7"}
	f.enis["eni-z"] = []string{"10.0.0.99", "10.0.0.101"} // of no node
	p, ctx := f.provider(), context.Background()
	web, db, none := netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("10.0.0.101"), netip.MustParseAddr("10.0.0.102")
	got, err := p.Find(ctx, []netip.Addr{none, db, web, netip.MustParseAddr("2001:db8::1")})
	want := []provider.Observed{
		{ID: "eni-b", Address: web, VPC: "vpc-1", Subnet: "subnet-1", State: provider.Available, ENI: "eni-b", Instance: "i-b", EIP: netip.MustParseAddr("198.51.100.7")},
		{ID: "eni-z", Address: db, VPC: "vpc-1", Subnet: "subnet-1", State: provider.Available, ENI: "eni-z", Instance: "i-z"},
		{Address: none, State: provider.Unbound},
	}
	if err != nil || !slices.EqualFunc(got, want, func(a, b provider.Observed) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := p.Claim(ctx, claim); err != nil {
		t.Fatal(err)
	}
	if got, err = p.Find(ctx, []netip.Addr{web}); err != nil || len(got) != 1 || got[0].ENI != "eni-a" {
		t.Errorf("after a claim: %+v, %v", got, err)
	}
	f.refuse = []string{"UnauthorizedOperation"}
	if _, err := p.Find(ctx, []netip.Addr{web}); !errors.Is(err, provider.ErrCredentials) {
		t.Errorf("a role that may not describe: %v", err)
	}
	if got, err := p.Find(ctx, nil); err != nil || len(got) != 0 {
		t.Errorf("no address: %+v, %v", got, err)
	}
}

// A filter has at most 200 values, and an answer may come in pages; no more than findMax addresses are asked about.
func TestFindMany(t *testing.T) {
	f := newFake(t)
	ask := []netip.Addr{netip.MustParseAddr("10.0.255.1")}
	f.enis["eni-b"] = append(f.enis["eni-b"], ask[0].String()) // asked for together with some of eni-a, on the second page
	for i := range findMax + 50 {
		a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		ask = append(ask, a)
		f.enis["eni-a"] = append(f.enis["eni-a"], a.String())
	}
	f.perPage = 1
	got, err := f.provider().Find(context.Background(), ask)
	if err != nil || len(got) != findMax || got[0].ENI != "eni-b" || got[findMax-1].ENI != "eni-a" {
		t.Errorf("%d are seen, the first %+v, the last %+v, %v", len(got), got[0], got[len(got)-1], err)
	}
	if calls := len(f.actions); calls < findMax/filterMax || calls > findMax/filterMax+1 {
		t.Errorf("%d calls", calls)
	}
}

// The cloud's names of the interfaces, by MAC.
func TestENIs(t *testing.T) {
	f := newFake(t)
	got, err := f.provider().ENIs(context.Background(), []string{"02:00:00:00:00:0B", "02:00:00:00:00:99"})
	if err != nil || len(got) != 1 || got[0].ID != "eni-b" || got[0].MAC != macB || got[0].Instance != "i-b" || got[0].Subnet != "subnet-1" || !got[0].Primary || len(got[0].Addresses) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if !f.provider().Caps().Describe {
		t.Error("the provider does not say that it describes")
	}
}
