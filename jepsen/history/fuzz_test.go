package history

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

// FuzzDecode: a file is a history or refused; a history is the same when written and read
// again.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		"", "\n\n", `{"probe":{"from":"client-1","target":"10.77.0.100","seq":1,"sent":5,"answered":9,"node":"node-1"}}`,
		`{"series":{"kind":"probe","from":"c","target":"t","every":1000000,"count":3}}`,
		`{"op":{"client":"c","verb":"create","input":{"a":[1, 2]},"invoke":1,"return":2,"outcome":"ok"}}`,
		`{"fault":{"name":"kill","begin":1}}`, `{"probe":{},"fault":{}}`, `{}`, `{"probe":{}} {}`, `{"colour":1}`, "[", `{"op":{"input":null}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := Decode(bytes.NewReader(text))
		if err != nil {
			if h != nil || !errors.Is(err, ErrFormat) && len(text) < lineBytesMax {
				t.Errorf("%v, %v", h, err)
			}
			return
		}
		var first, second bytes.Buffer
		if err := Encode(&first, h); err != nil {
			t.Fatal(err)
		}
		again, err := Decode(bytes.NewReader(first.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if err := Encode(&second, again); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) || len(h.Ops) == 0 && !reflect.DeepEqual(h, again) {
			t.Errorf("%s became %s", first.Bytes(), second.Bytes())
		}
	})
}
