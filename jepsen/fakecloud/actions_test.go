package fakecloud

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"testing"
)

// A parameter that an action does not have is refused, also one that another action has.
func TestUnknownParameters(t *testing.T) {
	c := New(Config{VPC: "vpc-1", Subnets: []Subnet{{ID: "subnet-1", CIDR: netip.MustParsePrefix("192.0.2.0/24")}}, Quota: 9, EIPs: []string{"198.51.100.7"}})
	made, no := actions["CreateHaVip"](c, request{"r-0", []byte(`{"VpcId":"vpc-1","SubnetId":"subnet-1","HaVipName":"web"}`)})
	if no != nil {
		t.Fatal(no)
	}
	id := made["HaVip"].(map[string]any)["HaVipId"].(string)
	// What each action takes, of parameters that another one has, too.
	takes := map[string][]string{
		"DescribeHaVips": {"Limit"}, "CreateHaVip": {"HaVipName"}, "DeleteHaVip": {"HaVipId"}, "ModifyHaVipAttribute": {"HaVipId", "HaVipName"},
		"AssociateHaVipInstance": {}, "DisassociateHaVipInstance": {}, "HaVipAssociateAddressIp": {"HaVipId", "AddressIp"},
		"HaVipDisassociateAddressIp": {"HaVipId"}, "DescribeVpcTaskResult": {"TaskId"}, "DescribeNetworkInterfaces": {"Limit"},
	}
	values := map[string]any{"HaVipId": id, "HaVipName": "api", "AddressIp": "198.51.100.7", "TaskId": "r-0", "Limit": 5, "Bogus": 1}
	for _, action := range slices.Sorted(maps.Keys(actions)) {
		known, listed := takes[action]
		if !listed {
			t.Errorf("%s is not in this test", action)
		}
		for _, name := range slices.Sorted(maps.Keys(values)) {
			body, err := json.Marshal(map[string]any{name: values[name]})
			if err != nil {
				t.Fatal(err)
			}
			_, no := actions[action](c, request{"r-1", body})
			if refused := no != nil && no.code == "UnknownParameter"; refused == slices.Contains(known, name) {
				t.Errorf("%s with %s: %v", action, name, no)
			}
			c.havips[id].busy = false
		}
	}
}
