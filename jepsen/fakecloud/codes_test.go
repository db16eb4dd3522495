package fakecloud

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// notKnown are documented codes of which the vendor says nothing but the name, or whose cause needs what is not played.
var notKnown = map[string]string{
	"CreateHaVip InvalidParameterValue":                                        "no cause is named beside the narrower codes",
	"CreateHaVip InvalidParameterValue.InvalidBusiness":                        "the object's field Business cannot be given",
	"DeleteHaVip InvalidParameterValue":                                        "no cause is named beside the narrower codes",
	"ModifyHaVipAttribute InvalidParameterValue":                               "no cause is named beside the narrower codes",
	"ModifyHaVipAttribute UnsupportedOperation":                                "no cause is named",
	"DescribeHaVips InternalError.ModuleError":                                 "a fault inside the cloud",
	"DisassociateHaVipInstance InvalidParameterValue":                          "no cause is named beside the narrower codes",
	"HaVipAssociateAddressIp InternalError.ModuleError":                        "a fault inside the cloud",
	"HaVipAssociateAddressIp UnsupportedOperation.UnsupportedBindLocalZoneEIP": "local zones are not played",
	"HaVipDisassociateAddressIp UnsupportedOperation":                          "no cause is named",
}

// Each documented refusal that a caller can bring about comes with its code.
func TestDocumentedCodes(t *testing.T) {
	long, many := strings.Repeat("n", 61), fmt.Sprintf("%q", slices.Repeat([]string{"havip-00000001"}, 101))
	many = strings.ReplaceAll(many, `" "`, `","`)
	member := func(havip, id, kind string) string {
		return fmt.Sprintf(`{"HaVipId":%q,"InstanceId":%q,"InstanceType":%q}`, havip, id, kind)
	}
	set := func(members ...string) string {
		return `{"HaVipAssociationSet":[` + strings.Join(members, ",") + `]}`
	}
	create := func(more string) string {
		return `{"VpcId":"vpc-fake0001","HaVipName":"x","SubnetId":"subnet-a"` + more + `}`
	}
	const here, away = "havip-00000001", "havip-ffffffff"
	shown := map[string]bool{}
	for _, row := range []struct{ action, code, body string }{
		{"CreateHaVip", "InvalidParameter", `{"VpcId":1}`},
		{"CreateHaVip", "InvalidParameterValue.Duplicate", create(`,"HaVipAssociationSet":[{"InstanceId":"ins-2","InstanceType":"CVM"},{"InstanceId":"ins-2","InstanceType":"CVM"}]`)},
		{"CreateHaVip", "InvalidParameterValue.Malformed", create(`,"Vip":"ten"`)},
		{"CreateHaVip", "InvalidParameterValue.Range", create(`,"Vip":"10.9.9.9"`)},
		{"CreateHaVip", "InvalidParameterValue.Reserved", create(`,"Vip":"10.0.0.1"`)},
		{"CreateHaVip", "InvalidParameterValue.TooLong", `{"VpcId":"vpc-fake0001","SubnetId":"subnet-a","HaVipName":"` + long + `"}`},
		{"CreateHaVip", "LimitExceeded", create("")}, // after the quota was lowered, below
		{"CreateHaVip", "ResourceInUse", create(`,"Vip":"10.0.0.11"`)},
		{"CreateHaVip", "ResourceInsufficient", `{"VpcId":"vpc-fake0001","HaVipName":"x","SubnetId":"subnet-full"}`},
		{"CreateHaVip", "ResourceNotFound", `{"VpcId":"vpc-other","HaVipName":"x","SubnetId":"subnet-a"}`},
		{"CreateHaVip", "UnsupportedOperation.SubnetNotExists", `{"VpcId":"vpc-fake0001","HaVipName":"x","SubnetId":"subnet-x"}`},
		{"DeleteHaVip", "InvalidParameter", `{"HaVipId":1}`},
		{"DeleteHaVip", "InvalidParameterValue.Malformed", `{"HaVipId":"web"}`},
		{"DeleteHaVip", "ResourceNotFound", `{"HaVipId":"` + away + `"}`},
		{"DeleteHaVip", "UnsupportedOperation", `{"HaVipId":"` + here + `"}`}, // it has an EIP
		{"ModifyHaVipAttribute", "InvalidParameter", `{"HaVipName":1}`},
		{"ModifyHaVipAttribute", "InvalidParameterValue.Malformed", `{"HaVipId":"web","HaVipName":"y"}`},
		{"ModifyHaVipAttribute", "InvalidParameterValue.TooLong", `{"HaVipId":"` + here + `","HaVipName":"` + long + `"}`},
		{"ModifyHaVipAttribute", "ResourceNotFound", `{"HaVipId":"` + away + `","HaVipName":"y"}`},
		{"DescribeHaVips", "InvalidParameter.Coexist", `{"HaVipIds":["` + here + `"],"Filters":[{"Name":"vip","Values":["10.0.0.100"]}]}`},
		{"DescribeHaVips", "InvalidParameter.FilterInvalidKey", `{"Filters":[{"Name":"color","Values":["red"]}]}`},
		{"DescribeHaVips", "InvalidParameterValue.LimitExceeded", `{"HaVipIds":` + many + `}`},
		{"DescribeHaVips", "InvalidParameterValue.Malformed", `{"HaVipIds":["web"]}`},
		{"DescribeHaVips", "InvalidParameterValue.Range", `{"Limit":101}`},
		{"DescribeHaVips", "InvalidParameterValue.TooLong", `{"Filters":[{"Name":"havip-name","Values":["` + long + `"]}]}`},
		{"AssociateHaVipInstance", "InvalidParameterValue", set(member(here, "eni-2", "ENI"))}, // a primary one
		{"AssociateHaVipInstance", "InvalidParameterValue.Duplicate", set(member(here, "ins-2", "CVM"), member(here, "ins-2", "CVM"))},
		{"AssociateHaVipInstance", "InvalidParameterValue.DuplicatedHaVipAssociations", set(member(here, "ins-1", "CVM"))},
		{"AssociateHaVipInstance", "InvalidParameterValue.Malformed", set(member("web", "ins-2", "CVM"))},
		{"AssociateHaVipInstance", "InvalidParameterValue.ParameterMismatch", set(member(here, "ins-2", "ENI"))},
		{"AssociateHaVipInstance", "LimitExceeded", set(slices.Repeat([]string{member(here, "ins-2", "CVM")}, 11)...)},
		{"AssociateHaVipInstance", "MissingParameter", `{}`},
		{"AssociateHaVipInstance", "ResourceNotFound", set(member(away, "ins-2", "CVM"))},
		{"DisassociateHaVipInstance", "InvalidParameterValue.Duplicate", set(member(here, "ins-1", "CVM"), member(here, "ins-1", "CVM"))},
		{"DisassociateHaVipInstance", "InvalidParameterValue.Malformed", set(member("web", "ins-1", "CVM"))},
		{"DisassociateHaVipInstance", "InvalidParameterValue.ParameterMismatch", set(member(here, "ins-1", "ENI"))},
		{"DisassociateHaVipInstance", "LimitExceeded", set(slices.Repeat([]string{member(here, "ins-1", "CVM")}, 11)...)},
		{"DisassociateHaVipInstance", "MissingParameter", `{}`},
		{"DisassociateHaVipInstance", "ResourceNotFound", set(member(here, "ins-2", "CVM"))},
		{"HaVipAssociateAddressIp", "InvalidParameterValue.Malformed", `{"HaVipId":"web","AddressIp":"198.51.100.2"}`},
		{"HaVipAssociateAddressIp", "ResourceNotFound", `{"HaVipId":"` + away + `","AddressIp":"198.51.100.2"}`},
		{"HaVipAssociateAddressIp", "UnsupportedOperation", `{"HaVipId":"havip-00000002","AddressIp":"198.51.100.1"}`},
		{"HaVipAssociateAddressIp", "UnsupportedOperation.BindEIP", `{"HaVipId":"` + here + `","AddressIp":"198.51.100.2"}`},
		{"HaVipAssociateAddressIp", "UnsupportedOperation.MutexOperationTaskRunning", `{"HaVipId":"havip-00000003","AddressIp":"198.51.100.2"}`},
		{"HaVipDisassociateAddressIp", "InvalidParameterValue.Malformed", `{"HaVipId":"web"}`},
		{"HaVipDisassociateAddressIp", "ResourceNotFound", `{"HaVipId":"` + away + `"}`},
		{"HaVipDisassociateAddressIp", "UnsupportedOperation.MutexOperationTaskRunning", `{"HaVipId":"havip-00000003"}`},
		{"HaVipDisassociateAddressIp", "UnsupportedOperation.UnbindEIP", `{"HaVipId":"havip-00000002"}`},
	} {
		c := settled(t)
		if row.action == "CreateHaVip" && row.code == "LimitExceeded" {
			c.cfg.Quota = 1
		}
		_, no := actions[row.action](c, request{"request", []byte(row.body)})
		if no == nil || no.code != row.code {
			t.Errorf("%s %s: %+v", row.action, row.body, no)
		}
		shown[row.action+" "+row.code] = true
	}
	for action, codes := range Codes {
		for _, code := range codes {
			if why := notKnown[action+" "+code]; shown[action+" "+code] == (why != "") {
				t.Errorf("%s of %s: it is to be brought about, or to have a reason why not, and not both", code, action)
			}
		}
	}
}

// settled is a cloud with three HAVIPs: the first has an instance in its range and an EIP, at the third a task is at work.
func settled(t *testing.T) *Cloud {
	t.Helper()
	c := New(Config{
		EIPs:    []string{"198.51.100.1", "198.51.100.2"},
		Subnets: []Subnet{{"subnet-a", netip.MustParsePrefix("10.0.0.0/24")}, {"subnet-full", netip.MustParsePrefix("10.0.9.0/30")}},
		ENIs: []ENI{
			{ID: "eni-1", MAC: "02:00:00:00:00:a1", Subnet: "subnet-a", Instance: "ins-1", Primary: true, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.11")}},
			{ID: "eni-2", MAC: "02:00:00:00:00:a2", Subnet: "subnet-a", Instance: "ins-2", Primary: true, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.12")}},
			{ID: "eni-9", MAC: "02:00:00:00:00:a9", Subnet: "subnet-full", Instance: "ins-1", Addresses: []netip.Addr{netip.MustParseAddr("10.0.9.2")}},
		},
	})
	for i := range 3 {
		body := fmt.Sprintf(`{"VpcId":"vpc-fake0001","HaVipName":"web-%d","SubnetId":"subnet-a","Vip":"10.0.0.%d"}`, i, 100+i)
		if _, no := actions["CreateHaVip"](c, request{"request", []byte(body)}); no != nil {
			t.Fatal(no)
		}
	}
	c.havips["havip-00000001"].HaVipAssociationSet = []Association{{"ins-1", "havip-00000001", "CVM"}}
	c.havips["havip-00000001"].AddressIp, c.eips["198.51.100.1"] = "198.51.100.1", "havip-00000001"
	c.havips["havip-00000003"].busy = true
	return c
}
