package fence

import "testing"

func TestFenceChoice(t *testing.T) {
	for _, c := range []struct {
		word string
		kind Kind
		hook string
	}{
		{"auto", "", ""},
		{"tcx", EBPF, HookTCX},
		{"clsact", EBPF, HookClsact},
		{"nftables", NFTables, ""},
	} {
		var choice Choice
		if err := choice.Set(c.word); err != nil {
			t.Error(err)
		}
		if got := choice.On(Config{Owner: "d"}); got.Owner != "d" || got.Prefer != c.kind || got.Hook != c.hook {
			t.Errorf("--fence %s gives %+v", c.word, got)
		}
	}
	choice := ChoiceAuto
	if err := choice.Set("xdp"); err == nil || choice != ChoiceAuto {
		t.Errorf("--fence xdp: %v, choice %q", err, choice)
	}
}
