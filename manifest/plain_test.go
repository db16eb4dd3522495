package manifest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// both reads a file in both ways. What the short one takes has to be what the library gives.
func both(t *testing.T, data []byte) (short bool) {
	t.Helper()
	if readable(data) != nil || prescan(data) != nil {
		return false
	}
	got, ok, err := plainYAML(&pacer{ctx: context.Background()}, data)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return false
	}
	want, err := libraryYAML(&pacer{ctx: context.Background()}, data)
	if err != nil {
		t.Fatalf("the library refuses %q: %v", clip(string(data), 2000), err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("of %q\n%s\nthe library makes\n%s", clip(string(data), 2000), clip(draw(got), 2000), clip(draw(want), 2000))
	}
	return true
}

func draw(n *tree) string {
	var b strings.Builder
	var write func(n *tree, depth int)
	write = func(n *tree, depth int) {
		fmt.Fprintf(&b, "%s%d:%d %s %q\n", strings.Repeat("  ", depth), n.Line, n.Col, n.shape, n.text)
		for i, item := range n.items {
			if n.keys != nil {
				write(n.keys[i], depth+1)
			}
			write(item, depth+1)
		}
	}
	write(n, 0)
	return b.String()
}

// shortly are files that are read in the short way, and longly those that are not.
var (
	shortly = []string{
		"version: 1\n", "version: 1\nhavips: []\n", "a: {}\nb: [ ]\n", "# x\n\nversion: 1\n  # y\nhavips:\n- name: a\n  ip: 10.0.0.1\n- name: b\n\n  ip: fd00::1\n",
		"havips:\n  - {name: h0, ip: 10.0.0.1, prefer: {node-1: 100, node-2/eth0: 5}, range: {type: cvm, members: [a, b], limit: true}}\n",
		"a:\n  - x\n  -   y\n  - [1, {b: c}]\n  - \"q # r\"\n  - 'it: is'\nb: two words\nc: null\nd: TRUE\ne: 0\n", "a:\n    b:\n      c: 1\n    d: 2\ne: 10m\n",
		"a: the front, of (two); it's#1 & more\nb: 10.0.0.1, 10.0.0.2\nc: \u00e9t\u00e9, \u65e5\u672c\n# \u00e9\nd: \"\u00e9\"\n", "\"a\": b\n\"c\":\n  - \"d\": {\"e\": f}\n", "a: 1.5\nb: 1e9\nc: 1.\nd: [2.5E-7]\n",
		"x:\n- a\n- b: c\n  d:\n  - e\n", "a: \"x\"\nb: 02:00-04:00\n",
	}
	longly = []string{
		"", "a", "a:\n", "a: -1\n", "a: 1e999\n", "a: 1e\n", "a: 1.5_0\n", "a: 010\n", "a: 0x1f\n", "a: 1_000\n", "a: &b c\n", "a: *b\n", "a: !t b\n", "a: |\n  b\n", "a: >\n  b\n", "? a\n: b\n", "<<: a\n", "---\na: b\n", "a: b\n...\n",
		"a: b # c\n", "a: \"b\\n\"\n", "a: 'b''c'\n", "a: \"b\n  c\"\n", "a: b\n  c\n", "a: [b,\n  c]\n", "a: [b, ]\n", "a: {b}\n", "a: {b:}\n", "a: [b: c]\n", "a:\tb\n", "a: b\r\n", "a: \u00e9\u2028b\n", "a: \"\u00e9\u0085\"\n", "a: [\"\u00e9\", b]\n", "a: \uffff\n", "\u00e9: b\n", " a: b\nc: d\n", "a: b: c\n", "a: b:\n",
		"a:\n  b: c\n d: e\n", "a:\n  - b\n c: d\n", "- a\nb: c\n", "- - a\n", "-\n", "- a\n  - b\n", "\"a b\": c\n", "\"a\\n\": b\n", "'a': b\n", "a : b\n", "a: ~\n", "a: .inf\n", "a: [::1]\n",
	}
)

func TestPlainReadsWhatItKnows(t *testing.T) {
	for _, text := range shortly {
		if !both(t, []byte(text)) {
			t.Errorf("%q goes to the library", text)
		}
	}
	for _, text := range longly {
		if both(t, []byte(text)) {
			t.Errorf("%q does not go to the library", text)
		}
	}
	for name, text := range bodies(1 << 12) {
		t.Run(name, func(t *testing.T) { both(t, []byte(text)) })
	}
}

// The files that this program writes, and that its documents show, are read in the short way.
func TestPlainReadsExports(t *testing.T) {
	m := New()
	for i := range 20 {
		h := NewHAVIP(fmt.Sprintf("web-%05d", i))
		h.IP, h.Range = fmt.Sprintf("10.0.0.%d", i+1), Range{Type: "cvm", Members: []string{"node-1", "node-2"}, Limit: true}
		h.Prefer = map[string]int{"node-1": 100}
		m.HAVIPs = append(m.HAVIPs, h)
	}
	if !both(t, m.YAML()) {
		t.Errorf("an export goes to the library:\n%s", m.YAML()[:min(len(m.YAML()), 600)])
	}
}

// A reading ends with its context.
func TestPlainEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	text := []byte("a:\n" + strings.Repeat("- {b: c}\n", 10000))
	if _, ok, err := plainYAML(&pacer{ctx: ctx}, text); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", ok, err)
	}
	if _, _, err := DecodeFor(ctx, text); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzPlain(f *testing.F) {
	for _, text := range append(shortly, longly...) {
		f.Add([]byte(text))
	}
	f.Add([]byte(example))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 1<<14 {
			both(t, data)
		}
	})
}

// Files thrown together from what YAML is made of, most of them wrong.
func TestPlainAgreesOnChance(t *testing.T) {
	parts := []string{
		"a", "b", "key: ", "c: ", "- ", "- ", "\n", "\n", "\n", "  ", "    ", " ", "{", "}", "[", "]", ", ", ",", ":", ": ", "1", "0", "10.0.0.1", "1.5", "0x1F", "1e3", "fd00::1", "::", "true", "null", "~",
		"\"q\"", "'s'", "\"", "'", "#", " # x", "-", "--", "---", "?", "&a ", "*a", "|", ">", "!", "%", "@", "`", "=", "+1", ".5", "12:30", "2026-01-02", "<<: ", "\n- ", "\n  - ", "\nk: ", "\n  k: ", "{k: v}", "[v]",
	}
	n := 30_000
	if testing.Short() {
		n = 3_000
	}
	random, short := rand.New(rand.NewPCG(1, 2)), 0
	for range n {
		var b strings.Builder
		for range 1 + random.IntN(12) {
			b.WriteString(parts[random.IntN(len(parts))])
		}
		if both(t, []byte(b.String())) {
			short++
		}
	}
	if short < n/1000 {
		t.Errorf("only %d of %d were read in the short way", short, n)
	}
	t.Logf("%d of %d were read in the short way", short, n)
}
