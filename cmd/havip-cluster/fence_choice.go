package main

import (
	"fmt"

	"havip-cluster/netdev/fence"
)

// fenceChoice is the value of --fence: auto, or one kind and one hook alone. It is a
// pflag.Value, so a wrong word is a usage error.
type fenceChoice string

// The words of --fence.
const (
	fenceAuto     fenceChoice = "auto" // the best that the kernel permits
	fenceTCX      fenceChoice = fence.HookTCX
	fenceClsact   fenceChoice = fence.HookClsact
	fenceNFTables fenceChoice = fenceChoice(fence.NFTables)
)

func (c *fenceChoice) String() string { return string(*c) }

// Type is the word for the value in the help text.
func (c *fenceChoice) Type() string { return "auto|tcx|clsact|nftables" }

func (c *fenceChoice) Set(word string) error {
	switch fenceChoice(word) {
	case fenceAuto, fenceTCX, fenceClsact, fenceNFTables:
		*c = fenceChoice(word)
		return nil
	}
	return fmt.Errorf("%q is no kind of fence; it is one of auto, tcx, clsact, nftables", word)
}

// on narrows a fence's configuration to the choice. Agent and guard must make the same one.
func (c fenceChoice) on(cfg fence.Config) fence.Config {
	switch c {
	case fenceTCX, fenceClsact:
		cfg.Prefer, cfg.Hook = fence.EBPF, string(c)
	case fenceNFTables:
		cfg.Prefer = fence.NFTables
	}
	return cfg
}
