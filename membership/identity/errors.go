// Package identity holds everything that a node's data directory says about who
// the node is: its names and ids, its keys and certificates, and the settings that
// it was made with. It also makes and reads join tokens, and builds the TLS
// configurations by which nodes of one cluster recognise each other.
//
// Nothing here starts a goroutine, opens a connection or reads the log.
package identity

import "errors"

// Every error of this package that a caller may want to tell apart wraps one of
// these. The text around it names the value at fault and the way out.
var (
	// ErrNoState is returned when a data directory is absent, or holds nothing of ours.
	ErrNoState = errors.New("identity: no state")

	// ErrExists is returned by Create when the directory holds a complete node.
	ErrExists = errors.New("identity: state exists")

	// ErrUnfinished is returned when a crash interrupted Create: there are files of
	// ours, but no identity.json, which is written last.
	ErrUnfinished = errors.New("identity: unfinished data directory")

	// ErrCorrupt is returned when a file is missing, cut off, malformed, or does not go
	// with the others.
	ErrCorrupt = errors.New("identity: corrupt state")

	// ErrFormat is returned when another version of the program wrote identity.json, in
	// a format that this one does not know.
	ErrFormat = errors.New("identity: unknown format")

	// ErrForeign is returned when a certificate is of another cluster or another node
	// than the one at hand, or not signed by the cluster's CA.
	ErrForeign = errors.New("identity: foreign certificate")

	// ErrExpired is returned when a certificate or a token is outside its time.
	ErrExpired = errors.New("identity: outside its time of validity")

	// ErrExposed is returned when other users may read a secret, or change any file.
	ErrExposed = errors.New("identity: permissions too open")

	// ErrLocked is returned by Lock when another process has the directory.
	ErrLocked = errors.New("identity: data directory in use")

	// ErrInvalid is returned when a value that an operator chose is not acceptable.
	ErrInvalid = errors.New("identity: invalid value")

	// ErrToken is returned when a text is not a join token, or a damaged one.
	ErrToken = errors.New("identity: bad join token")
)
