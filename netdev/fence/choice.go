package fence

import "fmt"

// Choice is the value of --fence: auto, or one kind and one hook alone. It is a
// pflag.Value, so a wrong word is a usage error.
type Choice string

// The words of --
const (
	ChoiceAuto     Choice = "auto" // the best that the kernel permits
	ChoiceTCX      Choice = HookTCX
	ChoiceClsact   Choice = HookClsact
	ChoiceNFTables Choice = Choice(NFTables)
)

func (c *Choice) String() string { return string(*c) }

// Type is the word for the value in the help text.
func (c *Choice) Type() string { return "auto|tcx|clsact|nftables" }

// Set takes one of the words.
func (c *Choice) Set(word string) error {
	switch Choice(word) {
	case ChoiceAuto, ChoiceTCX, ChoiceClsact, ChoiceNFTables:
		*c = Choice(word)
		return nil
	}
	return fmt.Errorf("%q is no kind of fence; it is one of auto, tcx, clsact, nftables", word)
}

// On narrows a fence's configuration to the choice. Agent and guard must make the same one.
func (c Choice) On(cfg Config) Config {
	switch c {
	case ChoiceTCX, ChoiceClsact:
		cfg.Prefer, cfg.Hook = EBPF, string(c)
	case ChoiceNFTables:
		cfg.Prefer = NFTables
	}
	return cfg
}
