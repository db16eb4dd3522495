package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"havip-cluster/fsm"
)

// What somebody typed into a form that was refused is in it again, with the reason above it, and a secret is not.
func TestRefusedFormsKeepWhatWasTyped(t *testing.T) {
	l := newLab(t)
	b := l.login("boss", fsm.RightAdmin)
	for _, row := range []struct {
		path string
		form url.Values
		has  []string
	}{
		{"/groups", url.Values{"name": {"fronts"}, "kind": {"together"}, "havips": {"<web>"}, "soft": {"yes"}}, []string{`value="fronts"`, `value="together" selected`, `value="&lt;web&gt;"`, `value="yes" checked`}},
		{"/subnets", url.Values{"name": {"lab"}, "cidr": {"10.0.0.999/8"}, "vpc": {"vpc-x"}, "gateway": {"g"}, "reserved": {"r"}}, []string{`value="lab"`, `value="10.0.0.999/8"`, `value="vpc-x"`, `value="g"`, `value="r"`}},
		{"/checks", url.Values{"name": {"c"}, "type": {"http"}, "target": {"http://x/"}, "rise": {"x"}, "effect": {"-7"}, "nodes": {"node-1"}}, []string{`value="c"`, `<option selected>http</option>`, `value="http://x/"`, `value="x"`, `value="-7"`, `value="node-1"`}},
		{"/checks", url.Values{"name": {"c"}, "type": {"tcp"}, "target": {"nowhere"}}, []string{`value="c"`, `value="nowhere"`}},
		{"/webhooks", url.Values{"name": {"w"}, "url": {"ftp://x"}, "events": {"placed"}, "secret": {"0123456789abcdef"}}, []string{`value="w"`, `value="ftp://x"`, `value="placed"`}},
		{"/tokens", url.Values{"name": {"t"}, "role": {"operator"}, "ttl": {"1s"}}, []string{`value="t"`, `value="operator" selected`, `value="1s"`}},
		{"/tokens", url.Values{"name": {"t t"}, "role": {"operator"}}, []string{`value="t t"`}},
	} {
		a := b.post("/console"+row.path, row.form)
		if a.status != http.StatusBadRequest || !strings.Contains(a.text, `class="note bad"`) {
			t.Errorf("%s %v: %d %s", row.path, row.form, a.status, plainText(a.text))
		}
		for _, has := range row.has {
			if !strings.Contains(a.text, has) {
				t.Errorf("%s %v: the page has no %s", row.path, row.form, has)
			}
		}
		if strings.Contains(a.text, "0123456789abcdef") {
			t.Errorf("%s: the page shows the secret again", row.path)
		}
	}
	if a := b.get("/console/groups"); strings.Contains(a.text, "fronts") {
		t.Error("what was refused is in a form of another visit")
	}
}
