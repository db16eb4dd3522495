package manifest

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// example is the form as the interface describes it.
const example = `
version: 1
nodes:                      # export writes them
  - {name: node-1, status: alive, standby: false, maintenance: false, draining: false, score: 0, health: green}
  - {name: node-2, capacity: 10}
  - {name: node-3, standby: true}
enis:
  - {id: node-1/eth0, node: node-1, device: eth0, mac: "02:00:00:00:00:01", subnet: s1, primary: true, up: true}
subnets:
  - {name: s1, vpc: vpc-default, cidr: 10.77.0.0/24, gateway: 10.77.0.1}
havips:
  - name: web
    ip: 10.77.0.100
    subnet: s1
    range: {type: cvm, members: [node-1, node-2], limit: true}
    prefer: {node-1: 100}
    bans: [node-3]
    stickiness: 100
    priority: 0
    weight: 1
    managed: true
    fail_limit: 3
    fails: {node-2: 1}
    failback: never
    enabled: true
    owner: node-1/eth0
  - name: api
    ip: 10.77.0.101
    range: {type: cvm, members: [node-1, node-2, node-3]}
    failback: 02:00-04:00
groups:
  - {name: fronts, kind: apart, hard: true, havips: [web, api]}
limits: {per_eni: 0, per_node: 0}
rebalance: never
`

func TestExample(t *testing.T) {
	m, warnings, err := Decode([]byte(example))
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v, warnings %v", err, warnings)
	}
	web := m.HAVIPs[0]
	if web.IP != "10.77.0.100" || web.Prefer["node-1"] != 100 || web.Stickiness != 100 || web.Owner != "node-1/eth0" || web.Fails["node-2"] != 1 {
		t.Errorf("web %+v", web)
	}
	api := m.HAVIPs[1]
	if !api.Enabled || !api.Managed || !api.Range.Limit || api.Stickiness != 1 || api.FailLimit != 3 || api.Weight != 1 {
		t.Errorf("defaults of api %+v", api)
	}
	if n := m.Nodes[1]; n.Capacity == nil || *n.Capacity != 10 || m.Nodes[0].Capacity != nil {
		t.Errorf("capacity %v", n.Capacity)
	}
	if m.Summary() != "2 HAVIPs, 1 groups, 1 subnets, 3 nodes, 1 ENIs" {
		t.Error(m.Summary())
	}
	golden(t, "testdata/example.yaml", string(m.Canonical().YAML()))
	golden(t, "testdata/example.json", string(m.Canonical().JSON()))
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s", name, got)
	}
}

// drawManifest draws one that is good in form, not in sense.
func drawManifest(t *rapid.T) Manifest {
	m := New()
	fill(t, reflect.ValueOf(&m).Elem(), "", 0)
	m.Version = Version
	return m.Canonical()
}

var words = []string{"", "web", "yes", "No", "null", "~", "1", "1.5", "0x10", "a: b", "- x", "#", "10.0.0.1", "2001:db8::1", "02:00-04:00", "5m",
	"\"", "'", "\\", "\n", "\t", "é 漢", "havip-1", "node-1/eth0", "{", "]", " lead", "trail ", "<<", "*a", "&a", "!t", "%", "@", "`", "2026-11-22T00:00:00Z", "1e5", ".inf", "\u2028", "\u0085", "\u00a0"}

// fill draws every field of the form, and leaves some as they are.
func fill(t *rapid.T, v reflect.Value, name string, depth int) {
	setDefaults(v)
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.OneOf(rapid.SampledFrom(words), rapid.StringMatching(`[ -~]{0,12}`)).Draw(t, name))
	case reflect.Int:
		v.SetInt(int64(rapid.OneOf(rapid.IntRange(-3, 3), rapid.Int()).Draw(t, name)))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, name))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, name+" said") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), name, depth+1)
		}
	case reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			field := v.FieldByIndex(f.index)
			otherwise := reflect.New(field.Type()).Elem()
			otherwise.Set(field)
			fill(t, field, name+"."+f.name, depth+1)
			if f.omit && (field.IsZero() || field.Kind() == reflect.Slice && field.Len() == 0) {
				field.Set(otherwise) // what is not written is read as what is there otherwise
			}
		}
	case reflect.Slice:
		if n := rapid.IntRange(-1, 3).Draw(t, name+" length"); n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(t, v.Index(i), fmt.Sprintf("%s[%d]", name, i), depth+1)
			}
		}
	case reflect.Map:
		for range rapid.IntRange(0, 2).Draw(t, name+" size") {
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			value := reflect.New(v.Type().Elem()).Elem()
			fill(t, value, name, depth+1)
			v.SetMapIndex(reflect.ValueOf(rapid.OneOf(rapid.SampledFrom(words), rapid.StringMatching(`[a-z/0-9.-]{1,9}`)).Draw(t, name+" key")), value)
		}
	}
}

// TestEncodeDecode: what is written is read back as it was, as YAML and as JSON, and
// writing that gives the same bytes.
func TestEncodeDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawManifest(t)
		for form, text := range map[string][]byte{"YAML": m.YAML(), "JSON": m.JSON()} {
			file, err := Read(text)
			if err != nil {
				t.Fatalf("%s: %v\n%s", form, err, text)
			}
			back := file.Manifest
			if !reflect.DeepEqual(normal(back), normal(m)) {
				t.Fatalf("%s: read back\n%s\nas\n%s", form, text, back.YAML())
			}
			if string(back.YAML()) != string(m.YAML()) || string(back.JSON()) != string(m.JSON()) {
				t.Fatalf("%s: written again it differs:\n%s\n%s", form, text, back.YAML())
			}
		}
	})
}

// normal drops the difference of nil and empty where the form has none.
func normal(m Manifest) Manifest {
	m = m.Canonical()
	for i := range m.Groups {
		if m.Groups[i].HAVIPs == nil {
			m.Groups[i].HAVIPs = []string{}
		}
	}
	return m
}

// TestCheckIsTotal: no manifest makes Check panic, and its places are in the file.
func TestCheckIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawManifest(t)
		text := m.YAML()
		file, err := Read(text)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(string(text), "\n") + 1
		for _, f := range file.Check() {
			if f.Line < 1 || f.Line > lines || f.Col < 1 || f.Path == "" || f.Code == "" || f.Text == "" {
				t.Fatalf("fault without its place: %+v\n%s", f, text)
			}
		}
		m.ToConfig()
		m.Problem(0)
		if d := Diff(m, m); len(d) > 0 && len(file.Check().Errors()) == 0 {
			t.Fatalf("a manifest differs from itself: %s", d)
		}
	})
}

func TestCanonicalOrder(t *testing.T) {
	a, _, err := Decode([]byte("version: 1\nhavips: [{name: b, ip: 10.0.0.2}, {name: a, ip: 10.0.0.1, range: {type: cvm, members: [z, y]}}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := Decode([]byte(`{"havips": [{"ip": "10.0.0.1", "range": {"members": ["y", "z"], "type": "cvm"}, "name": "a"}, {"name": "b", "ip": "10.0.0.2"}], "version": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(a.Canonical().YAML()), string(b.Canonical().YAML()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDiff(t *testing.T) {
	present, _, err := Decode([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	wanted, _, err := Decode([]byte(`
version: 1
nodes: [{name: node-1, standby: true}]
havips:
  - {name: web, range: {type: cvm, members: [node-1, node-2]}, bans: [node-3], stickiness: 100, failback: immediate}
  - {name: new, ip: 10.77.0.102, range: {type: cvm, members: [node-1, node-3]}}
rebalance: even
`))
	if err != nil {
		t.Fatal(err)
	}
	want := `~ cluster rebalance: never -> even
~ node node-1 standby: false -> true
- havip api {name: api, ip: 10.77.0.101, range: {type: cvm, members: [node-1, node-2, node-3], limit: true}, stickiness: 1, priority: 0, weight: 1, managed: true, fail_limit: 3, failback: "02:00-04:00", enabled: true}
+ havip new {name: new, ip: 10.77.0.102, range: {type: cvm, members: [node-1, node-3], limit: true}, stickiness: 1, priority: 0, weight: 1, managed: true, fail_limit: 3, failback: never, enabled: true}
~ havip web prefer: {node-1: 100} -> nothing
~ havip web failback: never -> immediate
`
	if got := Diff(present, wanted).String(); got != want {
		t.Errorf("got\n%s", got)
	}
	if d := Diff(present, present); len(d) > 0 {
		t.Errorf("no change makes a difference:\n%s", d)
	}
}

// BenchmarkLargest reads, checks and writes a file with as many HAVIPs as a cluster may have.
func BenchmarkLargest(b *testing.B) {
	m := New()
	m.HAVIPs = []HAVIP{}
	for i := range 10000 {
		h := NewHAVIP(fmt.Sprintf("web-%05d", i))
		h.IP = fmt.Sprintf("10.%d.%d.%d", i/60000, i/250%250, i%250+1)
		h.Range = Range{Type: "cvm", Members: []string{"node-1", "node-2"}, Limit: true}
		h.Prefer = map[string]int{"node-1": 100}
		m.HAVIPs = append(m.HAVIPs, h)
	}
	for form, text := range map[string][]byte{"YAML": m.YAML(), "JSON": m.JSON()} {
		b.Run(form, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				back, _, err := Decode(text)
				if err != nil || len(back.HAVIPs) != 10000 {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("diff", func(b *testing.B) {
		for b.Loop() {
			if d := Diff(m, m); len(d) > 0 {
				b.Fatal(d)
			}
		}
	})
}
