package main

import (
	"testing"

	"havip-cluster/netdev/fence"
)

func TestFenceChoice(t *testing.T) {
	for _, c := range []struct {
		word string
		kind fence.Kind
		hook string
	}{
		{"auto", "", ""},
		{"tcx", fence.EBPF, fence.HookTCX},
		{"clsact", fence.EBPF, fence.HookClsact},
		{"nftables", fence.NFTables, ""},
	} {
		var choice fenceChoice
		if err := choice.Set(c.word); err != nil {
			t.Error(err)
		}
		if got := choice.on(fence.Config{Owner: "d"}); got.Owner != "d" || got.Prefer != c.kind || got.Hook != c.hook {
			t.Errorf("--fence %s gives %+v", c.word, got)
		}
	}
	choice := fenceAuto
	if err := choice.Set("xdp"); err == nil || choice != fenceAuto {
		t.Errorf("--fence xdp: %v, choice %q", err, choice)
	}
}
