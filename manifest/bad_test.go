package manifest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"havip-cluster/fsm"
)

// badFile is a file that must be refused, with the first fault's code, place and words.
type badFile struct {
	name, text string
	code       fsm.Code
	want       string // how the fault begins: LINE:COL: PATH
	why        string
}

// havip puts lines into one HAVIP; the first is line 4, column 5.
func havipWith(lines string) string {
	return "version: 1\nhavips:\n  - name: web\n    " + strings.ReplaceAll(lines, "\n", "\n    ") + "\n"
}

func rangeOf(text string) string { return havipWith("ip: 10.0.0.9\nrange: " + text) }

const twoHAVIPs = "version: 1\nhavips: [{name: a, ip: 10.0.0.2, range: {type: cvm, members: [n1, n2]}}, {name: b, ip: 10.0.0.3, range: {type: cvm, members: [n1, n2]}}]\n"

func laughs() string {
	var b strings.Builder
	b.WriteString("version: 1\na: &a [x, x, x, x, x, x, x, x, x]\n")
	for c := 'b'; c < 'k'; c++ {
		fmt.Fprintf(&b, "%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	return b.String()
}

var badForms = []badFile{
	{"empty", "", fsm.CodeMissing, "1:1", "empty"},
	{"blanks", " \n\n", fsm.CodeMissing, "1:1", "empty"},
	{"comments only", "# nothing\n", fsm.CodeMissing, "1:1", "but for comments"},
	{"UTF-16 little", "\xff\xfev\x00e\x00", CodeEncoding, "1:1", "UTF-16"},
	{"UTF-16 big", "\xfe\xff\x00v", CodeEncoding, "1:1", "UTF-16"},
	{"UTF-16 without mark", "v\x00e\x00", CodeEncoding, "1:2", "zero byte"},
	{"byte order mark", "\xef\xbb\xbfversion: 1\n", CodeEncoding, "1:1", "byte order mark"},
	{"Latin-1", "version: 1\n# Stra\xdfe\n", CodeEncoding, "2:7", "0xdf is not UTF-8"},
	{"cut within a character", "version: 1\n# \xe4\xbd", CodeEncoding, "2:3", "not UTF-8"},
	{"control character", "version: 1\nrebalance: \x1b[31m\n", CodeEncoding, "2:12", "0x1b"},
	{"huge", strings.Repeat("#", MaxBytes+1), fsm.CodeLimit, "", "at most"},
	{"scalar", "version\n", CodeType, "1:1", "a mapping is wanted here, not text"},
	{"list", "- version: 1\n", CodeType, "1:1", "a mapping is wanted"},
	{"several documents", "version: 1\n---\nversion: 1\n", CodeSyntax, "3:", "more than one document"},
	{"line separator", "version: 1\n# a\u2028b\n", CodeEncoding, "2:4", "U+2028"}, {"next line", "version: 1\u0085\n", CodeEncoding, "1:11", "U+0085"},
	{"a list", "# x\n  - a\n", CodeType, "2:3", "a mapping is wanted here, not a list"}, {"a list in brackets", "[a,\nb]", CodeType, "1:1", "a mapping is wanted here, not a list"},
	{"anchors and aliases", "version: 1\nhavips:\n" + strings.Repeat("- &a b\n- *a\n", MaxAliases/2) + "- !t c\n", fsm.CodeLimit, "1003:1", "anchors, aliases and tags"},
	{"directive", "%YAML 1.2\n---\nversion: 1\n", fsm.CodeUnsupported, "1:1", "directives"},
	{"tabs", "version: 1\nhavips:\n\t- name: web\n", CodeSyntax, "3:1", "cannot start any token"},
	{"not closed", "version: 1\nhavips: [\n", CodeSyntax, "2:", ""},
	{"open quote", "version: 1\nrebalance: \"never\n", CodeSyntax, "2:", ""},
	{"JSON cut short", "{\"version\": 1, \"havips\": [", CodeSyntax, "1:", ""},
	{"two JSON documents", "{\"version\": 1}\n{\"version\": 1}", CodeSyntax, "2:", ""},
	{"deep flow", "version: 1\nhavips: " + strings.Repeat("[", 50000), fsm.CodeLimit, "2:", "nested deeper"},
	{"deep block", "version: 1\nhavips:\n" + strings.Repeat("- ", 50000) + "x\n", fsm.CodeLimit, "3:", "nested deeper"},
	{"deep JSON", "{\"havips\": " + strings.Repeat("[", 30) + strings.Repeat("]", 30) + "}", fsm.CodeLimit, "1:", "nested deeper"},
	{"deep indents", func() string {
		var b strings.Builder
		for i := range 40 {
			b.WriteString(strings.Repeat(" ", i) + "a:\n")
		}
		return b.String()
	}(), fsm.CodeLimit, "", "nested deeper"},
	{"tags", "version: !!int 1\n", fsm.CodeUnsupported, "1:10", "tags"},
	{"merge key", "version: 1\nlimits: &l {per_eni: 1}\nhavips: [{<<: *l}]\n", fsm.CodeUnsupported, "3:11", "merge keys"},
	{"alias without anchor", "version: 1\nhavips: *x\n", CodeSyntax, "2:9", "no &x"},
	{"cycle", "version: 1\nhavips: &x [*x]\n", CodeSyntax, "2:13", "a cycle"},
	{"billion laughs", laughs(), CodeUnknownKey, "2:1", `no key "a"`},
	{"many aliases", "version: 1\nhavips: [&a {name: x, ip: 10.0.0.1}" + strings.Repeat(", *a", MaxAliases+1) + "]\n", fsm.CodeLimit, "2:", "aliases"},
	{"laughs in a known key", "version: 1\nrevision: 1\nsubnets: [" + strings.Repeat("{name: x, reserved: ", 1) + "&a [" + strings.Repeat("x,", 2000) + "x]}" + strings.Repeat(", {reserved: *a}", 999) + "]\n", fsm.CodeLimit, "3:", "by more than 100000 values"},
	{"unknown key", "version: 1\nvips: []\n", CodeUnknownKey, "2:1: vips", `no key "vips"`},
	{"unknown key, nearly", "version: 1\nhavip: []\n", CodeUnknownKey, "2:1: havip", "is havips meant?"},
	{"unknown key inside", havipWith("addr: 10.0.0.1"), CodeUnknownKey, "4:5: havips[0].addr", `no key "addr"`},
	{"unknown key in flow", rangeOf("{kind: cvm}"), CodeUnknownKey, "5:13: havips[0].range.kind", `no key "kind"`},
	{"unknown key in JSON", "{\"version\": 1,\n \"havips\": [{\"name\": \"web\", \"prio\": \"10.0.0.1\"}]}", CodeUnknownKey, "2:29: havips[0].prio", `no key "prio"`},
	{"capital", "Version: 1\n", CodeUnknownKey, "1:1: Version", "is version meant?"},
	{"duplicate key", "version: 1\nversion: 1\n", fsm.CodeDuplicate, "2:1: version", "first at 1:1"},
	{"duplicate key inside", havipWith("ip: 10.0.0.1\nip: 10.0.0.2"), fsm.CodeDuplicate, "5:5: havips[0].ip", "here twice"},
	{"duplicate key in JSON", "{\"version\": 1, \"version\": 1}", fsm.CodeDuplicate, "1:16: version", "here twice"},
	{"duplicate score", havipWith("ip: 10.0.0.1\nprefer: {n1: 1, n1: 2}"), fsm.CodeDuplicate, "5:21: havips[0].prefer.n1", "here twice"},
	{"list for a key", "version: 1\n? [a]\n: b\n", CodeType, "2:3", "a key must be text, not a list"},
	{"an old octal", "version: 01\n", CodeType, "1:10: version", "not text (01)"},
	{"many comments", "version: 1\n" + strings.Repeat("# x\n", MaxComments+1), fsm.CodeLimit, "12002:1", "more than 12000 comments"},
	{"many comments behind values", "version: 1\nhavips:\n" + strings.Repeat("- {} # x\n", MaxComments+1), fsm.CodeLimit, "12003:1", "more than 12000 comments"},
	{"far to the right", "version: 1\nhavips:\n" + strings.Repeat(" ", MaxIndent+1) + "- {}\n", fsm.CodeLimit, "3:258", "indented by 257"},
	{"a control character of Latin-1", "version: 1\n# \u0084\n", CodeEncoding, "2:3", "0x84"},
	{"no version", "havips: []\n", fsm.CodeMissing, "1:1: version", "write `version: 1`"},
	{"version 2", "version: 2\n", fsm.CodeUnsupported, "1:10: version", "version 2"},
	{"version as text", "version: \"1\"\n", CodeType, "1:10: version", "without quotes"},
	{"version 1.0", "version: 1.0\n", CodeType, "1:10: version", "not a number (1.0)"},
	{"number for text", havipWith("ip: 10"), CodeType, "4:9: havips[0].ip", "text is wanted here, not a whole number (10)"},
	{"text for a number", havipWith("ip: 10.0.0.1\npriority: high"), CodeType, "5:15: havips[0].priority", "a whole number is wanted"},
	{"text for a flag", havipWith("ip: 10.0.0.1\nenabled: \"true\""), CodeType, "5:14: havips[0].enabled", "true or false is wanted"},
	{"yes for a flag", havipWith("ip: 10.0.0.1\nenabled: yes"), CodeType, "5:14: havips[0].enabled", "not text (yes)"},
	{"one for a list", rangeOf("{type: cvm, members: n1}"), CodeType, "5:33: havips[0].range.members", "a list is wanted"},
	{"list for one", havipWith("ip: [10.0.0.1]"), CodeType, "4:9: havips[0].ip", "not a list"},
	{"nothing", havipWith("ip:"), CodeType, "4:", "leave the key out"},
	{"number out of bounds", havipWith("ip: 10.0.0.1\npriority: 99999999999999999999"), fsm.CodeRange, "5:15: havips[0].priority", "out of range"},
	{"infinity", havipWith("ip: 10.0.0.1\nprefer: {n1: .inf}"), CodeType, "5:18: havips[0].prefer.n1", "not a number"},
}

var badSense = []badFile{
	{"no name", "version: 1\nhavips:\n  - ip: 10.0.0.1\n", fsm.CodeMissing, "3:5: havips[0].name", "needs a name"},
	{"blank name", "version: 1\nhavips:\n  - {name: \"  \", ip: 10.0.0.1}\n", fsm.CodeMissing, "3:12: havips[0].name", "needs a name"},
	{"long name", "version: 1\nhavips:\n  - {name: " + strings.Repeat("é", 61) + ", ip: 10.0.0.1}\n", fsm.CodeTooLong, "3:12: havips[0].name", "61 characters, at most 60"},
	{"name like an id", "version: 1\nhavips:\n  - {name: havip-web, ip: 10.0.0.1}\n", fsm.CodeMalformed, "3:12: havips[0].name", "looks like an id"},
	{"control character in a name", "version: 1\nhavips:\n  - {name: \"a\\u0007\", ip: 10.0.0.1}\n", fsm.CodeMalformed, "3:12: havips[0].name", "control characters"},
	{"name twice", strings.Replace(twoHAVIPs, "name: b", "name: a", 1), fsm.CodeDuplicate, "2:81: havips[1].name", "is called a as well"},
	{"address twice", strings.Replace(twoHAVIPs, "10.0.0.3", "10.0.0.2", 1), fsm.CodeDuplicate, "2:88: havips[1].ip", "also the address of havips[0] a"},
	{"address", havipWith("ip: 10.0.0.999"), fsm.CodeMalformed, "4:9: havips[0].ip", "not an IP address"},
	{"leading zeros", havipWith("ip: 10.0.0.010"), fsm.CodeMalformed, "4:9: havips[0].ip", "not an IP address"},
	{"address with prefix", havipWith("ip: 10.0.0.1/24"), fsm.CodeMalformed, "4:9: havips[0].ip", "prefix length"},
	{"zone", havipWith("ip: \"fe80::1%eth0\""), fsm.CodeMalformed, "4:9: havips[0].ip", "zone"},
	{"IPv4 in IPv6", havipWith("ip: \"::ffff:10.0.0.1\""), fsm.CodeMalformed, "4:9: havips[0].ip", "IPv4 within IPv6"},
	{"multicast", havipWith("ip: 224.0.0.1"), fsm.CodeRange, "4:9: havips[0].ip", "can be no HAVIP"},
	{"loopback", havipWith("ip: 127.0.0.1"), fsm.CodeRange, "4:9: havips[0].ip", "can be no HAVIP"},
	{"subnet unknown", havipWith("ip: 10.0.0.9\nsubnet: s9") + "subnets: []\n", fsm.CodeSubnetNotExist, "5:13: havips[0].subnet", `no subnet "s9"`},
	{"outside its subnet", havipWith("ip: 10.0.1.9\nsubnet: s") + "subnets: [{name: s, cidr: 10.0.0.0/24}]\n", fsm.CodeRange, "4:9: havips[0].ip", "10.0.1.9 is not in subnet s"},
	{"network", havipWith("ip: 10.0.0.0") + "subnets: [{name: s, cidr: 10.0.0.0/24}]\n", fsm.CodeReserved, "4:9: havips[0].ip", "is the network"},
	{"gateway by default", havipWith("ip: 10.0.0.65") + "subnets: [{name: s, cidr: 10.0.0.64/26}]\n", fsm.CodeReserved, "4:9: havips[0].ip", "is the gateway"},
	{"named gateway", havipWith("ip: 10.0.0.99") + "subnets: [{name: s, cidr: 10.0.0.64/26, gateway: 10.0.0.99}]\n", fsm.CodeReserved, "4:9: havips[0].ip", "is the gateway"},
	{"broadcast", havipWith("ip: 10.0.0.127") + "subnets: [{name: s, cidr: 10.0.0.64/26}]\n", fsm.CodeReserved, "4:9: havips[0].ip", "broadcast"},
	{"reserved", havipWith("ip: 10.0.0.9") + "subnets: [{name: s, cidr: 10.0.0.0/24, reserved: [10.0.0.9]}]\n", fsm.CodeReserved, "4:9: havips[0].ip", "reserved by its subnet"},
	{"first host at tencent", "provider: tencent\n" + havipWith("ip: 10.0.0.1") + "subnets: [{name: s, cidr: 10.0.0.0/24, gateway: 10.0.0.9}]\n", fsm.CodeReserved, "5:9: havips[0].ip", "is the gateway"},
	{"IPv6 at tencent", "provider: tencent\n" + havipWith("ip: \"2001:db8::1\""), fsm.CodeMalformed, "5:9: havips[0].ip", "IPv6"},
	{"other VPC", havipWith("ip: 10.0.0.9\nvpc: vpc-b") + "subnets: [{name: s, vpc: vpc-a, cidr: 10.0.0.0/24}]\nhavips2: 1\n", CodeUnknownKey, "7:1: havips2", "is havips meant?"},
	{"subnet of another VPC", havipWith("ip: 10.0.0.9\nsubnet: s\nvpc: vpc-b") + "subnets: [{name: s, vpc: vpc-a, cidr: 10.0.0.0/24}]\n", fsm.CodeParameter, "6:10: havips[0].vpc", "belongs to vpc-a, not vpc-b"},
	{"CIDR", "version: 1\nsubnets: [{name: s, cidr: 10.0.0.0}]\n", fsm.CodeMalformed, "2:27: subnets[0].cidr", "not a network"},
	{"host bits", "version: 1\nsubnets: [{name: s, cidr: 10.0.0.5/24}]\n", fsm.CodeMalformed, "2:27: subnets[0].cidr", "host bits"},
	{"prefix 33", "version: 1\nsubnets: [{name: s, cidr: 10.0.0.0/33}]\n", fsm.CodeMalformed, "2:27: subnets[0].cidr", "not a network"},
	{"everything", "version: 1\nsubnets: [{name: s, cidr: 0.0.0.0/0}]\n", fsm.CodeRange, "2:27: subnets[0].cidr", "cannot be a subnet"},
	{"too small at tencent", "version: 1\nprovider: tencent\nsubnets: [{name: s, cidr: 10.0.0.0/29}]\n", fsm.CodeRange, "3:27: subnets[0].cidr", "profile tencent"},
	{"overlap", "version: 1\nsubnets: [{name: s, cidr: 10.0.0.0/24}, {name: t, cidr: 10.0.0.0/16}]\n", fsm.CodeInUse, "2:57: subnets[1].cidr", "overlaps subnets[0] s"},
	{"subnet twice", "version: 1\nsubnets: [{name: s, cidr: 10.0.0.0/24}, {name: s, cidr: 10.1.0.0/16}]\n", fsm.CodeDuplicate, "2:48: subnets[1].name", "here twice"},
	{"subnet name", "version: 1\nsubnets: [{name: a/b, cidr: 10.0.0.0/24}]\n", fsm.CodeMalformed, "2:18: subnets[0].name", "cannot name a subnet"},
	{"gateway outside", "version: 1\nsubnets: [{name: s, cidr: 10.0.0.0/24, gateway: 10.1.0.1}]\n", fsm.CodeRange, "2:49: subnets[0].gateway", "is not in 10.0.0.0/24"},
	{"range type", rangeOf("{type: vm, members: [n1]}"), fsm.CodeParameter, "5:19: havips[0].range.type", `"vm" is not known`},
	{"range without type", rangeOf("{members: [n1]}"), fsm.CodeParameter, "5:12: havips[0].range.type", "say cvm, eni"},
	{"eleven members", rangeOf("{type: cvm, members: [a, b, c, d, e, f, g, h, i, j, k]}"), fsm.CodeLimit, "5:33: havips[0].range.members", "11 members, at most 10"},
	{"member twice", rangeOf("{type: cvm, members: [n1, n1]}"), fsm.CodeDuplicate, "5:38: havips[0].range.members[1]", "twice"},
	{"mixed range", rangeOf("{type: cvm, members: [n1, n2/eth0]}"), fsm.CodeParameter, "5:38: havips[0].range.members[1]", "a range has one type"},
	{"node in an ENI range", rangeOf("{type: eni, members: [n1]}") + "nodes: [{name: n1}]\n", fsm.CodeParameter, "5:34: havips[0].range.members[0]", "n1 is a node"},
	{"primary ENI", rangeOf("{type: eni, members: [n1/eth0]}") + "nodes: [{name: n1}]\nenis: [{id: n1/eth0, node: n1, device: eth0, primary: true}]\n", fsm.CodeParameter, "5:34: havips[0].range.members[0]", "primary ENI of n1"},
	{"node name", rangeOf("{type: cvm, members: [N1]}"), fsm.CodeMalformed, "5:34: havips[0].range.members[0]", "cannot name a node"},
	{"score", havipWith("ip: 10.0.0.9\nprefer: {n1: 1000001}"), fsm.CodeRange, "5:18: havips[0].prefer.n1", "not from -1000000 to 1000000"},
	{"required and forbidden", havipWith("ip: 10.0.0.9\nrequire: [n1]\nforbid: [n1]"), CodeConflict, "6:14: havips[0].forbid[0]", "required as well"},
	{"banned twice", havipWith("ip: 10.0.0.9\nbans: [n2, n2]"), fsm.CodeDuplicate, "5:16: havips[0].bans[1]", "here twice"},
	{"empty target", havipWith("ip: 10.0.0.9\nbans: [\"\"]"), fsm.CodeMissing, "5:12: havips[0].bans[0]", "is empty"},
	{"end of no ban", havipWith("ip: 10.0.0.9\nban_ends: {n1: \"2026-01-01T00:00:00Z\"}"), fsm.CodeNotFound, "5:20: havips[0].ban_ends.n1", "not in bans"},
	{"end that is no time", havipWith("ip: 10.0.0.9\nbans: [n1]\nban_ends: {n1: tomorrow}"), fsm.CodeMalformed, "6:20: havips[0].ban_ends.n1", "not a time"},
	{"stickiness", havipWith("ip: 10.0.0.9\nstickiness: -1"), fsm.CodeRange, "5:17: havips[0].stickiness", "a stickiness of -1"},
	{"weight", havipWith("ip: 10.0.0.9\nweight: -1"), fsm.CodeRange, "5:13: havips[0].weight", "a weight of -1"},
	{"fail limit", havipWith("ip: 10.0.0.9\nfail_limit: -1"), fsm.CodeRange, "5:17: havips[0].fail_limit", "a failure limit of -1"},
	{"failback", havipWith("ip: 10.0.0.9\nfailback: soon"), fsm.CodeParameter, "5:15: havips[0].failback", `"soon" is not a failback`},
	{"failback window", havipWith("ip: 10.0.0.9\nfailback: 25:00-26:00"), fsm.CodeParameter, "5:15: havips[0].failback", "is not a failback"},
	{"EIP", havipWith("ip: 10.0.0.9\neip: eip-1"), fsm.CodeMalformed, "5:10: havips[0].eip", "not an IP address"},
	{"owner unknown", havipWith("ip: 10.0.0.9\nowner: n1/eth0"), fsm.CodeNotFound, "5:12: havips[0].owner", "no ENI n1/eth0"},
	{"node twice", "version: 1\nnodes: [{name: n1}, {name: n1}]\n", fsm.CodeDuplicate, "2:28: nodes[1].name", "first as nodes[0]"},
	{"node in capitals", "version: 1\nnodes: [{name: N1}]\n", fsm.CodeMalformed, "2:16: nodes[0].name", "cannot name a node"},
	{"health", "version: 1\nnodes: [{name: n1, health: blue}]\n", fsm.CodeParameter, "2:28: nodes[0].health", `"blue" is not known`},
	{"capacity", "version: 1\nnodes: [{name: n1, capacity: -1}]\n", fsm.CodeRange, "2:30: nodes[0].capacity", "-1"},
	{"ENI of nobody", "version: 1\nenis: [{id: n1/eth0, node: n1}]\n", fsm.CodeNotFound, "2:28: enis[0].node", `no node "n1"`},
	{"rebalance", "version: 1\nrebalance: always\n", fsm.CodeParameter, "2:12: rebalance", "say never, even"},
	{"limits", "version: 1\nlimits: {per_eni: -1}\n", fsm.CodeRange, "2:19: limits.per_eni", "-1"},
	{"group kind", twoHAVIPs + "groups: [{name: g, kind: near, havips: [a, b]}]\n", fsm.CodeParameter, "3:26: groups[0].kind", `"near" is not known`},
	{"group without kind", twoHAVIPs + "groups: [{name: g, havips: [a, b]}]\n", fsm.CodeParameter, "3:10: groups[0].kind", "say together, apart"},
	{"group of a stranger", twoHAVIPs + "groups: [{name: g, kind: apart, havips: [a, z]}]\n", fsm.CodeNotFound, "3:45: groups[0].havips[1]", `no HAVIP "z"`},
	{"member of a group twice", twoHAVIPs + "groups: [{name: g, kind: apart, havips: [a, a]}]\n", fsm.CodeDuplicate, "3:45: groups[0].havips[1]", "in the group twice"},
	{"group twice", twoHAVIPs + "groups: [{name: g, kind: apart, havips: [a, b]}, {name: g, kind: apart, havips: [a, b]}]\n", fsm.CodeDuplicate, "3:57: groups[1].name", "first as groups[0]"},
	{"together and apart", twoHAVIPs + "groups: [{name: g, kind: apart, havips: [a, b]}, {name: h, kind: together, havips: [a, b]}]\n", CodeConflict, "3:10: groups[0]", "must be apart here, and together"},
	{"together by a chain", "version: 1\nhavips: [{name: a, ip: 10.0.0.2}, {name: b, ip: 10.0.0.3}, {name: c, ip: 10.0.0.4}]\ngroups: [{name: g, kind: together, havips: [a, b]}, {name: h, kind: together, havips: [b, c]}, {name: i, kind: apart, havips: [a, c]}]\n", CodeConflict, "3:96: groups[2]", "a and c must be apart"},
}

func TestBadInput(t *testing.T) {
	for _, row := range append(badForms, badSense...) {
		t.Run(row.name, func(t *testing.T) {
			before := []byte(row.text)
			m, _, err := Decode(before)
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("error %v", err)
			}
			f := faults[0]
			if f.Code != row.code || !strings.HasPrefix(f.Error(), row.want) || !strings.Contains(f.Text, row.why) {
				t.Errorf("%s\nwant %s ... %s (%s)", f, row.want, row.why, row.code)
			}
			if !reflect.DeepEqual(m, Manifest{}) || string(before) != row.text {
				t.Error("a refused file gave a manifest, or was written to")
			}
		})
	}
	if n := len(badForms) + len(badSense); n < 100 {
		t.Errorf("%d rows", n)
	}
}

func TestWarnings(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{rangeOf("{limit: true}"), "5:12: havips[0].range: warning: the range is empty and limited"},
		{rangeOf("{type: cvm, members: [n1]}"), "warning: the range has one member"},
		{strings.Replace(twoHAVIPs, "members: [n1, n2]", "members: [n3, n4]", 1) + "groups: [{name: g, kind: together, havips: [a, b]}]\n", "3:10: groups[0]: warning: no node may own all of them: b has no node in common with those before it"},
		{havipWith("ip: 10.0.0.9\nrequire: [n1]\nbans: [n2, n1]"), "6:16: havips[0].bans[1]: warning: n1 is required as well"},
		{rangeOf("{type: cvm, members: [n1, n2]}") + "nodes: [{name: n1}]\n", "5:38: havips[0].range.members[1]: warning: the file lists no node or ENI n2"},
		{havipWith("priority: 1\nrange: {type: cvm, members: [n1, n2]}"), "warning: neither an address (ip) nor a subnet"},
		{havipWith("ip: 10.0.0.9\nrequire: [n3]\nrange: {type: cvm, members: [n1, n2]}"), "5:15: havips[0].require[0]: warning: n3 is required and not in the range"},
		{twoHAVIPs + "groups: [{name: g, kind: apart, havips: [a]}]\n", "3:41: groups[0].havips: warning: a group of 1 says nothing"},
		{strings.ReplaceAll(twoHAVIPs, "[n1, n2]", "[n1]") + "groups: [{name: g, kind: apart, havips: [a, b]}]\n", "2 HAVIPs must be on different nodes, and their ranges hold 1"},
	} {
		_, warnings, err := Decode([]byte(row.text))
		if err != nil || !strings.Contains(warnings.Error(), row.want) {
			t.Errorf("%s\n%v, warnings %v, want %s", row.text, err, warnings, row.want)
		}
	}
}

// TestAllFaultsAtOnce: a file is not corrected one fault at a time.
func TestAllFaultsAtOnce(t *testing.T) {
	_, _, err := Decode([]byte("version: 1\nhavips:\n  - {name: a, ip: x, stickiness: -1}\n  - {name: b, ip: y, failback: z}\n"))
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != 4 {
		t.Fatalf("%d faults: %v", len(faults), err)
	}
	for i := range faults[1:] {
		if a, b := faults[i], faults[i+1]; a.Line > b.Line || a.Line == b.Line && a.Col > b.Col {
			t.Errorf("not in the order of their places: %v", faults)
		}
	}
	var many strings.Builder
	many.WriteString("version: 1\nhavips:\n")
	for range 5 * MaxFaults {
		many.WriteString("  - {nonsense: 1}\n")
	}
	if _, _, err = Decode([]byte(many.String())); !errors.As(err, &faults) || len(faults) != MaxFaults {
		t.Errorf("%d faults, want %d", len(faults), MaxFaults)
	}
}

// FuzzRead: any bytes give a manifest that is written and read back as it is, or a fault
// with a code.
func FuzzRead(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(`{"version": 1, "havips": [{"name": "a", "ip": "10.0.0.1"}]}`))
	f.Add([]byte("version: 1\nlimits: &a {per_eni: 1}\nhavips: [&b {name: \"x\\n\"}, *b]\n"))
	f.Add([]byte("version: 1\nnodes: []\nhavips:\n- name: |\n   a\n  prefer: {? a : 1}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Read(data)
		if err != nil {
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 || faults[0].Code == "" {
				t.Fatalf("error without a code: %v", err)
			}
			return
		}
		file.Check()
		m := file.Manifest.Canonical()
		back, err := Read(m.YAML())
		if err != nil || string(back.Manifest.Canonical().YAML()) != string(m.YAML()) {
			t.Fatalf("%v\n%s", err, m.YAML())
		}
	})
}
