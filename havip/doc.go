// Package havip says what an operator may set of a HAVIP: each setting with its default, its
// bounds, its names and its sentence, once. The state and the commands of the log, the API, the
// manifest and the flags are made from the types and the table of this package.
//
// Read spec.go (the three forms), then settings.go (the table). Name, address, range, bans and EIP
// are no settings: they have rules and verbs of their own.
package havip
