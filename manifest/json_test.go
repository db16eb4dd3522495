package manifest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// same compares a tree with what encoding/json reads token by token, keys that are there twice among them.
func same(dec *json.Decoder, n *tree) error {
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	want := tree{}
	switch v := tok.(type) {
	case nil:
		want.shape = shapeNull
	case bool:
		want.shape, want.text = shapeBool, strconv.FormatBool(v)
	case string:
		want.shape, want.text = shapeText, v
	case json.Number:
		want.shape, want.text = shapeFloat, v.String()
		if _, err := strconv.ParseInt(want.text, 10, 64); err == nil {
			want.shape = shapeInt
		}
	case json.Delim:
		want.shape = shapeList
		if v == '{' {
			want.shape = shapeMapping
		}
	}
	if n.shape != want.shape || n.text != want.text {
		return fmt.Errorf("%d:%d: %s %q, want %s %q", n.Line, n.Col, n.shape, n.text, want.shape, want.text)
	}
	if n.shape != shapeList && n.shape != shapeMapping {
		return nil
	}
	for i := range n.items {
		if n.shape == shapeMapping {
			if err := same(dec, n.keys[i]); err != nil {
				return err
			}
		}
		if err := same(dec, n.items[i]); err != nil {
			return err
		}
	}
	if end, err := dec.Token(); err != nil || end != json.Delim(']') && end != json.Delim('}') {
		return fmt.Errorf("%d:%d: it goes on with %v: %w", n.Line, n.Col, end, err)
	}
	return nil
}

func checkJSON(t *testing.T, data []byte) {
	t.Helper()
	if readable(data) != nil || !json.Valid(data) {
		return
	}
	root, err := parseJSON(&pacer{ctx: context.Background()}, data)
	if err != nil {
		return // a limit
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := same(dec, root); err != nil {
		t.Errorf("%q: %v", data, err)
	}
}

var jsonFiles = []string{
	`{}`, `[]`, ` [ ] `, `{"a":1}`, "{\n \"a\" : [1 , -2.5e3,\"x\\\"y\\\\\", null,true,false ] ,\r\n\t\"b\":{\"c\":{}}}\n",
	`{"a":"é\u00e9\ud83d\ude00","é":["日本", "]", "}", ",", ":"]}`, `{"a":1,"a":2}`, `[[[[]]],[{}],"",0,-0,123456789012345678901234567890]`, `["\\"]`, `["\\\""]`,
}

// The reader of JSON makes what encoding/json makes of it.
func TestJSONReader(t *testing.T) {
	for _, f := range jsonFiles {
		checkJSON(t, []byte(f))
	}
	file := []byte("{\n \"é\": [10,\n  {\"b\": \"c\"}]}")
	root, err := parseJSON(&pacer{ctx: context.Background()}, file)
	must(t, err)
	list := root.items[0]
	for _, row := range []struct {
		n         *tree
		line, col int
	}{{root, 1, 1}, {root.keys[0], 2, 2}, {list, 2, 7}, {list.items[0], 2, 8}, {list.items[1], 3, 3}, {list.items[1].keys[0], 3, 4}, {list.items[1].items[0], 3, 9}} {
		if row.n.Line != row.line || row.n.Col != row.col {
			t.Errorf("%s %q stands at %d:%d, want %d:%d", row.n.shape, row.n.text, row.n.Line, row.n.Col, row.line, row.col)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 { // what is cut, doubled and exchanged
		b := []byte(jsonFiles[r.IntN(len(jsonFiles))])
		for range r.IntN(4) {
			at := r.IntN(len(b))
			b[at] = `{}[]":,\01 n`[r.IntN(12)]
		}
		checkJSON(t, b)
	}
}

// A file of JSON is no denser than one of YAML may be.
func TestJSONTooDense(t *testing.T) {
	for _, f := range []string{"[" + strings.Repeat("1,", 1<<18) + "1]", "{" + strings.Repeat(`"a":1,`, 1<<17) + `"b":2}`, "{" + strings.Repeat(`"a":1,`, 1<<17)} {
		if _, err := Read([]byte(f)); err == nil || !strings.Contains(err.Error(), "more than a configuration has") {
			t.Errorf("%.20s: %v", f, err)
		}
	}
}

func FuzzJSON(f *testing.F) {
	for _, file := range jsonFiles {
		f.Add([]byte(file))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkJSON(t, data) })
}
