package guard

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzParseMessage: what the guard reads from the agent's pipe is a whole message or nothing.
func FuzzParseMessage(f *testing.F) {
	for _, text := range []string{"", `{"v":1,"session":7,"peers":[{"node":"n-1","api":"10.0.0.1:7400"}],"fence":"ebpf"}`, `{"v":2}`, `{"v":1,"peers":null}`, `{"v":1,"session":-1}`, `{"v":1}{"v":1}`, `[1]`, `null`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		w, ok := parseMessage(line)
		if !ok {
			return
		}
		if w.Version != messageVersion || len(w.Peers) > PeersMax {
			t.Errorf("%q became %+v", line, w)
		}
		text, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if again, ok := parseMessage(text); !ok || !reflect.DeepEqual(again, w) {
			t.Errorf("%+v became %+v", w, again)
		}
	})
}
