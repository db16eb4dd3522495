// Package fsm is what the cluster has agreed on: the types, the rules, the versioned
// commands, Apply and the snapshot.
//
// It is a pure core. A State is immutable; Apply takes one and a command and returns
// the next one with a Result. There is no clock, no randomness, no I/O, no float and
// no map order in here: time enters as Command.At, written by the proposer, and every
// list leaves sorted. So the same log gives the same bytes on every replica.
//
// Reading order: types.go and havip.go (the nouns), command.go (the verbs), apply.go (the dispatch),
// apply_claims.go (who may own what, and when an old claim is gone), placing.go
// (the state as package placement sees it, which has the hard rules), snapshot.go (the bytes). What level 2 added: level.go (how nodes of two
// releases live together), types_level2.go, command_level2.go, apply_failures.go, apply_drain.go, apply_cluster.go,
// apply_range.go, apply_groups.go, apply_config.go, provider.go.
package fsm
