// Package manifest is the configuration as a file: what `apply` reads, `export` writes,
// `verify` checks and `plan --offline` takes its state from. It is strict (an unknown key
// is a fault with a line and a column) and pure: bytes in, values and faults out.
//
// Reading order: types.go (the form), tree.go (YAML or JSON to a tree under limits),
// decode.go (tree to types), check.go (sense), encode.go, diff.go, state.go (to and from
// the cluster's state). The folders below import other programs' configurations.
package manifest
