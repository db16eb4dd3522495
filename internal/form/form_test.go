package form

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

type part struct {
	Off  bool   `json:"off,omitempty"`
	Note string `json:"note,omitempty"`
	Say  *bool  `json:"say,omitempty"`
}

type whole struct {
	ID string `json:"id"`
	part
	Late   int `json:"late"`
	hidden int
	Skip   int `json:"-"`
}

var f = New[whole]("late on id note", Rule{Key: "off", As: "on", Invert: true}, Rule{Key: "say", As: "silent,omitempty", Invert: true})

// The order is that of the form, what it does not name comes last, and a boolean is turned round.
func TestForm(t *testing.T) {
	yes := true
	v := whole{ID: "a<b", part: part{Off: true, Note: "x", Say: &yes}, Late: 3, hidden: 1, Skip: 2}
	got, err := f.Marshal(&v)
	if want := `{"late":3,"on":false,"id":"a<b","note":"x","silent":false}`; err != nil || string(got) != want {
		t.Fatalf("%s, %v, want %s", got, err, want)
	}
	back := whole{Late: 9}
	if err := f.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	v.hidden, v.Skip = 0, 0
	if !reflect.DeepEqual(back, v) {
		t.Errorf("read back as %+v", back)
	}
	if err := f.Unmarshal([]byte(`{"on":true}`), &back); err != nil || back.Off || back.Say != nil || back.Late != 0 {
		t.Errorf("%+v: %v; what is absent is zero", back, err)
	}
	for _, bad := range []string{`{"off":true}`, `{"on":1}`, `{"late":1} {}`, `{`, `[]`} {
		if err := f.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

// Within an encoder that escapes, the text is escaped as anywhere else.
func TestEscapes(t *testing.T) {
	v := whole{ID: "<&> \u2028 \xff"}
	inner, err := f.Marshal(&v)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := json.Marshal(json.RawMessage(inner))
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(v.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(outer), string(want)) {
		t.Errorf("%s lacks %s", outer, want)
	}
}

// A key that the type has not is a fault of the program.
func TestUnknownKey(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an order with a key that is not there was taken")
		}
	}()
	New[whole]("id gone")
}
