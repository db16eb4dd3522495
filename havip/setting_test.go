package havip

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// keys are the JSON names of a type's fields.
func keys(t reflect.Type) []string {
	var out []string
	for f := range t.Fields() {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out = append(out, key)
	}
	slices.Sort(out)
	return out
}

// The table and the three forms speak of the same settings, each has its sentence, and what is
// off in the log is on everywhere else.
func TestTableIsWhole(t *testing.T) {
	var table []string
	for i := range Settings {
		s := &Settings[i]
		table = append(table, s.Key)
		if s.Doc() == "" || s.Kind == "" || s.check == nil || s.Verbs() == "" {
			t.Errorf("%s lacks a sentence, a kind or its functions", s.Key)
		}
		if (s.Kind == Number || s.Kind == Scores) && s.Low >= s.High || s.Kind == Targets && s.High == 0 {
			t.Errorf("%s has no bounds", s.Key)
		}
		if s.Kind == YesNo && s.Mark == "" {
			t.Errorf("nobody sees in a list that %s is not the default", s.Key)
		}
	}
	slices.Sort(table)
	log := keys(reflect.TypeFor[Spec]())
	for i, key := range log {
		log[i] = map[string]string{"disabled": "enabled", "unmanaged": "managed"}[key]
		if log[i] == "" {
			log[i] = key
		}
	}
	slices.Sort(log)
	for what, got := range map[string][]string{"Spec": log, "Change": keys(reflect.TypeFor[Change]()), "View": keys(reflect.TypeFor[View]())} {
		if !slices.Equal(got, table) {
			t.Errorf("%s has the settings %v, the table %v", what, got, table)
		}
	}
}

// fill gives each field of a struct a value that is no default.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		var x any
		switch f.Type().Elem().Kind() {
		case reflect.Map:
			x = &map[string]int{"n1": 3}
		case reflect.Slice:
			x = &[]string{"n2", "n1", "n2"}
		case reflect.Int:
			n := 7
			x = &n
		case reflect.String:
			text := "5m"
			if v.Type().Field(i).Name == "Probe" {
				text = "http:61000/up"
			}
			x = &text
		case reflect.Bool:
			on := v.Type().Field(i).Name == "Maintenance"
			x = &on
		}
		f.Set(reflect.ValueOf(x))
	}
}

// Whatever a change says comes through to the view, by the log and by the file, and nothing else
// does.
func TestEverySettingGoesRound(t *testing.T) {
	var all Change
	fill(reflect.ValueOf(&all).Elem())
	if got := (Spec{}).With(Change{}); !reflect.DeepEqual(got, Spec{}) {
		t.Errorf("a change of nothing gives %+v", got)
	}
	changed := Spec{}.With(all)
	raw, err := json.Marshal(changed)
	if err != nil {
		t.Fatal(err)
	}
	var back Spec
	if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(back, changed) {
		t.Errorf("%s became %+v: %v", raw, back, err)
	}
	clean := changed.Clean()
	view := clean.View()
	if again := view.Spec(); !reflect.DeepEqual(again, clean) {
		t.Errorf("%+v, as a view and back, is %+v", clean, again)
	}
	if !slices.Equal(view.Require, []string{"n1", "n2"}) {
		t.Errorf("a list is kept as %v", view.Require)
	}
	for i := range Settings {
		s := &Settings[i]
		def, has := Defaults(), view
		if s.Same(&Spec{}, &clean) || s.Print(&def) == s.Print(&has) || s.Check(&clean) != nil {
			t.Errorf("%s was not changed: %q, or cannot be: %v", s.Key, s.Print(&has), s.Check(&clean))
		}
		// One alone changes no other.
		var one Change
		field := reflect.TypeFor[Change]().Field(slices.IndexFunc(reflect.VisibleFields(reflect.TypeFor[Change]()), func(f reflect.StructField) bool {
			return strings.HasPrefix(f.Tag.Get("json"), s.Key+",")
		}))
		reflect.ValueOf(&one).Elem().FieldByIndex(field.Index).Set(reflect.ValueOf(all).FieldByIndex(field.Index))
		alone := Spec{}.With(one)
		for j := range Settings {
			if Settings[j].Same(&Spec{}, &alone) == (i == j) {
				t.Errorf("a change of %s and %s", s.Key, Settings[j].Key)
			}
		}
	}
}

// The defaults are those that a file without a word means, and leave nothing in the log.
func TestDefaults(t *testing.T) {
	view := Defaults()
	if view.Stickiness != 1 || view.Weight != 1 || view.FailLimit != 3 || view.Failback != "never" || !view.Enabled || !view.Managed || view.Maintenance {
		t.Errorf("%+v", view)
	}
	got := view.Spec()
	got.Failback = "" // the file says never, which means the same
	if !reflect.DeepEqual(got, Spec{}) {
		t.Errorf("the defaults leave %+v", got)
	}
	whole, err := json.Marshal(view.Whole())
	if err != nil || strings.Contains(string(whole), "null") {
		t.Errorf("%s: %v", whole, err)
	}
	var list []string
	var table map[string]int
	solid, err := json.Marshal(Change{Require: &list, Prefer: &table}.Solid())
	if err != nil || string(solid) != `{"prefer":{},"require":[]}` {
		t.Errorf("%s: %v", solid, err)
	}
	if list != nil || table != nil {
		t.Error("the caller's own were changed")
	}
}

// Clean keeps nothing that the caller may still change.
func TestCleanCopies(t *testing.T) {
	names, scores := []string{"n1"}, map[string]int{"n1": 1}
	s := Spec{Require: names, Prefer: scores}.Clean()
	names[0], scores["n2"] = "n9", 9
	if !slices.Equal(s.Require, []string{"n1"}) || !maps.Equal(s.Prefer, map[string]int{"n1": 1}) {
		t.Errorf("%+v", s)
	}
}

func setting(t testing.TB, key string) *Setting {
	t.Helper()
	for i := range Settings {
		if Settings[i].Key == key {
			return &Settings[i]
		}
	}
	t.Fatalf("no setting %s", key)
	return nil
}

// What is typed ends up in the change, or is refused with the value and what may be.
func TestFlags(t *testing.T) {
	for _, tc := range []struct {
		key   string
		typed []string
		want  string // of the change in JSON, or of the error
	}{
		{"fail_limit", []string{"5"}, `{"fail_limit":5}`},
		{"fail_limit", []string{"5", "0"}, `{"fail_limit":0}`},
		{"fail_limit", []string{"-1"}, "a failure limit of -1 is not possible: 0 to 1000000"},
		{"fail_limit", []string{"three"}, `"three" is not a whole number`},
		{"priority", []string{"-7"}, `{"priority":-7}`},
		{"require", []string{"n1,n2", "n3"}, `{"require":["n1","n2","n3"]}`},
		{"require", []string{""}, `{"require":[]}`},
		{"require", []string{"n1,"}, "has an empty name"},
		{"require", []string{"", "n1"}, "has an empty name"},
		{"forbid", []string{strings.Repeat("n,", TargetsMax) + "n"}, "65 forbidden nodes and ENIs, at most 64"},
		{"prefer", []string{"n1=3", "n1/eth0=-2"}, `{"prefer":{"n1":3,"n1/eth0":-2}}`},
		{"prefer", []string{""}, `{"prefer":{}}`},
		{"prefer", []string{"", "n1=3"}, "takes all preferences away"},
		{"prefer", []string{"n1=3", "n1=4"}, "--prefer: names n1 twice"},
		{"prefer", []string{"n1"}, "is not NODE=SCORE"},
		{"prefer", []string{"n1=9999999"}, "the score 9999999 for n1"},
		{"failback", []string{"5m"}, `{"failback":"5m"}`},
		{"failback", []string{"soon"}, `"soon" is not a failback`},
		{"description", []string{"the shop; ask web@example"}, `{"description":"the shop; ask web@example"}`},
		{"probe", []string{"tcp:61000"}, `{"probe":"tcp:61000"}`},
		{"fail_period", []string{"3600"}, `{"fail_period":3600}`},
		{"fail_period", []string{"2592001"}, "a failure period of 2592001 is not possible: 0 to 2592000"},
		{"probe", []string{""}, `{"probe":""}`},
		{"probe", []string{"61000"}, "neither tcp:PORT nor http:PORT/PATH"},
		{"description", []string{""}, `{"description":""}`},
		{"description", []string{strings.Repeat("é", DescriptionMax/2) + "x"}, "has 257 bytes, at most 256"},
		{"description", []string{"two\nlines"}, "control characters"},
		{"description", []string{"\xff"}, "not UTF-8"},
		{"managed", []string{"false"}, `{"managed":false}`},
		{"managed", []string{"perhaps"}, "is not true or false"},
	} {
		var c Change
		v := setting(t, tc.key).Value(&c)
		var err error
		for _, text := range tc.typed {
			if err = v.Set(text); err != nil {
				break
			}
		}
		got, jerr := json.Marshal(c)
		if jerr != nil {
			t.Fatal(jerr)
		}
		if err != nil {
			got = []byte(err.Error())
		}
		if !strings.Contains(string(got), tc.want) {
			t.Errorf("--%s %q: %s, want %s", tc.key, tc.typed, got, tc.want)
		}
	}
}

// FuzzScores: scores that are typed are read whole or refused.
func FuzzScores(f *testing.F) {
	for _, text := range []string{"", "node-2=7", "node-1/eth0=-3", "=1", "a=", "a=b=1", "a=99999999999999999999", "a=+1", "a=0x10", "a=1_0"} {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		var c Change
		v := setting(t, "prefer").Value(&c)
		if v.Set(first) != nil || v.Set(second) != nil {
			return
		}
		if len(*c.Prefer) != 2 {
			t.Errorf("%q and %q became %v", first, second, *c.Prefer)
		}
	})
}
