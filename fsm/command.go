package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"time"

	"havip-cluster/internal/limits"
)

// CommandVersion is the newest version of the encoding. An entry is written with the
// lowest that has everything in it, which is the level of its command (level.go), and
// every version is read. An unknown one halts the node's FSM visibly: guessing would make
// replicas differ.
const CommandVersion = CommandLevel

// Errors of DecodeCommand and of decoding a body. A node that meets one in the log stops
// applying; the API refuses such a command before it gets there.
var (
	// ErrCommandVersion is returned when a command was written by a newer program.
	ErrCommandVersion = errors.New("fsm: command of an unknown version or kind: this node runs an older program than the one that wrote the log; upgrade it")
	// ErrCommandCorrupt is returned when the bytes are not a command.
	ErrCommandCorrupt = errors.New("fsm: corrupt command")
)

// Command is one entry of the log.
type Command struct {
	Kind string `json:"kind"`
	// At is the proposer's wall clock in unix nanoseconds: for records and expiry, never
	// for safety.
	At int64  `json:"at"`
	By string `json:"by,omitempty"` // node id of the proposer
	// Term binds the command to one term of Raft; 0 = any. See ApplyEntry.
	Term uint64 `json:"term,omitempty"`
	// Key is the caller's idempotency key, at most MaxKey bytes; "" = none.
	Key string `json:"key,omitempty"`
	// Caller is who asked for it; nil in what nodes and leaders do by themselves, and below
	// level 4.
	Caller *Caller         `json:"caller,omitempty"`
	Body   json.RawMessage `json:"body"`

	body  Body // what open decoded: always a pointer to one of the types below
	level int  // of body, once it is decoded
	made  bool // by NewCommand or read by it: Body is as json.Marshal writes it
}

// Body is the content of a command: one of the types below.
type Body interface{ kind() string }

// NewCommand makes a command, whose body is decoded again once: what is tried, judged and applied is
// what the log will hold. The error is that of a body which cannot be read back.
func NewCommand(at int64, by, key string, body Body) (Command, error) {
	p, err := Prepare(body)
	if err != nil {
		return Command{}, err
	}
	c := p.command
	c.At, c.By, c.Key = at, by, key
	return c, nil
}

// plainBody makes an empty list of a nil one that is pointed to: JSON would make null of
// it, which reads as "not set", and which is a field all the same to a program that does
// not know it.
func plainBody(body Body) Body {
	b, ok := body.(UpdateHAVIP)
	if p, is := body.(*UpdateHAVIP); is {
		b, ok = *p, true
	}
	if !ok {
		return body
	}
	if b.Bans != nil && *b.Bans == nil {
		b.Bans = &[]string{}
	}
	b.Change = b.Change.Solid()
	return b
}

// Encode gives the bytes of the log entry: one byte of version, then JSON.
func (c Command) Encode() ([]byte, error) {
	raw, err := c.json()
	if err != nil {
		return nil, fmt.Errorf("fsm: encode command: %w", err)
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	limit := MaxCommand
	if c.needLevel() < 3 {
		limit = limits.CommandBytesLevel2
	}
	if len(raw)+1 > limit {
		return nil, Refuse(CodeLimit, "the command has %d bytes, at most %d fit into one log entry; split the request", len(raw)+1, limit)
	}
	return append([]byte{byte(c.needLevel())}, raw...), nil
}

// needLevel is the level of an opened command: that of its body, or of its caller.
func (c Command) needLevel() int {
	if c.Caller != nil {
		return max(c.level, 4)
	}
	return c.level
}

// DecodeCommand reads what Encode wrote. Unknown fields are an error: a program that
// ignored them would diverge from one that does not.
func DecodeCommand(b []byte) (Command, error) {
	if len(b) < 2 || len(b) > MaxCommand {
		return Command{}, fmt.Errorf("%w: %d bytes", ErrCommandCorrupt, len(b))
	}
	if b[0] == 0 || b[0] > CommandVersion {
		return Command{}, fmt.Errorf("%w (version %d)", ErrCommandVersion, b[0])
	}
	var c Command
	if err := decodeStrict(b[1:], &c); err != nil {
		return Command{}, err
	}
	if err := c.open(); err != nil {
		return Command{}, err
	}
	return c, nil
}

// commandFrame is more than the bytes of an encoded command beside its body.
const commandFrame = 2048

// open decodes the body, once.
func (c *Command) open() error {
	if c.body != nil {
		return nil
	}
	body, ok := newBody(c.Kind)
	if !ok {
		return fmt.Errorf("%w (kind %q)", ErrCommandVersion, c.Kind)
	}
	if err := decodeStrict(c.Body, body); err != nil {
		return err
	}
	c.body, c.level = body, levelOf(body)
	if len(c.Body) > limits.CommandBytesLevel2-commandFrame {
		c.level = max(c.level, 3)
	}
	return nil
}

func decodeStrict(b []byte, into any) error {
	if err := decodeJSON(b, into); err != nil {
		return fmt.Errorf("%w: %w", ErrCommandCorrupt, err)
	}
	return nil
}

// decodeJSON reads exactly one JSON value, without unknown fields.
func decodeJSON(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after the end")
	}
	return nil
}

// fingerprint identifies kind and content, to tell a repeated request from another one
// under the same key.
func (c Command) fingerprint() string {
	h := sha256.New()
	h.Write([]byte(c.Kind))
	h.Write([]byte{0})
	h.Write(c.Body)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// InitCluster is the first command of a cluster. A second one is refused.
type InitCluster struct {
	ID      string        `json:"id"`
	Profile string        `json:"profile"`
	Lease   time.Duration `json:"lease"`
	Node    Node          `json:"node"`
}

// CreateToken records a join token.
type CreateToken struct {
	Token Token `json:"token"`
}

// AddNode admits a node by its token and uses the token up.
type AddNode struct {
	Token      string `json:"token"`
	SecretHash string `json:"secret_hash"`
	Node       Node   `json:"node"`
	// WithCA: the leader has the CA's key, and gives it if the node may hold it.
	WithCA bool `json:"with_ca,omitempty" level:"4"`
}

// UpdateNode changes what is not nil.
type UpdateNode struct {
	ID          string  `json:"id"`
	Standby     *bool   `json:"standby,omitempty"`
	Maintenance *bool   `json:"maintenance,omitempty"`
	Removing    *bool   `json:"removing,omitempty"`
	Version     *string `json:"version,omitempty"` // with its level, see VersionWithLevel

	Capacity   *int `json:"capacity,omitempty" level:"2"`
	NoCapacity bool `json:"no_capacity,omitempty" level:"2"` // takes the limit away
	Score      *int `json:"score,omitempty" level:"2"`

	KeepCA *bool `json:"keep_ca,omitempty" level:"4"` // with Removing
}

// RemoveNode takes a node out of the state. Refused while its session is open (rule 9).
type RemoveNode struct {
	ID string `json:"id"`
}

// ReportENIs is a node's inventory; an ENI that it no longer names is detached. Session is the
// node's last session that it knew of, 0 = not said: a report from before a newer one was on
// its way while the node was cut off, and tells of links as they were then.
type ReportENIs struct {
	Node    string `json:"node"`
	ENIs    []ENI  `json:"enis"`
	Session uint64 `json:"session,omitempty" level:"2"`
	// Leftout says what the report does not hold, and why; "" = it is whole.
	Leftout string `json:"leftout,omitempty" level:"3"`
}

// SetENI is the operator's word about an ENI; nil leaves a field, "" takes it back.
type SetENI struct {
	ID      string  `json:"id"`
	Subnet  *string `json:"subnet,omitempty"`
	Primary *bool   `json:"primary,omitempty"`
}

// CreateSubnet registers a subnet.
type CreateSubnet struct {
	Subnet Subnet `json:"subnet"`
}

// DeleteSubnet forgets a subnet without HAVIPs.
type DeleteSubnet struct {
	Name string `json:"name"`
}

// DeleteHAVIP removes a HAVIP. While it is owned it is refused, unless Force: then the
// owner releases first, and the HAVIP goes with its last claim.
type DeleteHAVIP struct {
	ID    string `json:"id"`
	Force bool   `json:"force,omitempty"`
}

// OpenSession opens a node's new session and closes the older one (rule 1). It is
// refused unless Last is the node's last session: a delayed request of a dead process
// must not close a living session. From level 3 on it is refused, with CodeNotReady, while a
// HAVIP is newer than what the node's fence knows.
type OpenSession struct {
	Node    string `json:"node"`
	Last    uint64 `json:"last"`
	Attempt string `json:"attempt"`
	// Guarded: the fence knows every HAVIP of the log up to this index.
	Guarded uint64 `json:"guarded,omitempty" level:"3"`
	// Held is the attempt of the session that this same process had before; "" = none. The
	// leader lets another process wait until that session is silent: it may be a copy of the
	// node on another host. Apply does not look at it.
	Held string `json:"held,omitempty" level:"3"`
	// Lease is the length of the first lease where that of the cluster is too short for the way of
	// this entry through the log; whole milliseconds up to limits.OpeningLongest, 0 = the cluster's.
	// It counts like SetLease to that length, and back to the cluster's right after (rule 8).
	Lease time.Duration `json:"lease,omitempty" level:"4"`
}

// DrainSession says that the holder is about to end its session.
type DrainSession struct {
	Node    string `json:"node"`
	Session uint64 `json:"session"`
}

// CloseSession closes a session and places what it held, in one entry (rule 5). The
// proposer has a majority of endorsements, or the holder's own word (Released).
type CloseSession struct {
	Session  uint64       `json:"session"`
	Released bool         `json:"released,omitempty"`
	Place    []Assignment `json:"place,omitempty"`
}

// Assignment gives a HAVIP a new owner, or none (Session 0). It is guarded by the epoch
// it was computed from.
type Assignment struct {
	HAVIP     string `json:"havip"`
	FromEpoch Epoch  `json:"from_epoch"`
	Node      string `json:"node,omitempty"`
	Session   uint64 `json:"session,omitempty"`
	ENI       string `json:"eni,omitempty"`
	Reason    string `json:"reason"`
	// Detail is kept in the journal of decisions as it is, at most MaxDetail bytes.
	Detail string `json:"detail,omitempty" level:"2"`
}

// Place carries out a placement that the leader has decided. Each assignment is done or
// refused by itself; the command is refused when none was done.
type Place struct {
	Assignments []Assignment `json:"assignments"`
}

// Release says that a holder answers no longer for some claims, and never will again.
type Release struct {
	Claims []ReleasedClaim `json:"claims"`
}

// ReleasedClaim names one claim and, where the holder gave it up by itself, why.
type ReleasedClaim struct {
	HAVIP   string `json:"havip"`
	Epoch   Epoch  `json:"epoch"`
	Session uint64 `json:"session"`
	Failure string `json:"failure,omitempty"`
}

// ReportEvent puts what a node saw at its own interfaces into the journal.
type ReportEvent struct {
	Node  string `json:"node"`
	Kind  string `json:"kind"` // repaired, conflict, fault, guard
	HAVIP string `json:"havip,omitempty"`
	Text  string `json:"text"`
}

// SetLease changes the lease length (rule 8).
type SetLease struct {
	Lease time.Duration `json:"lease"`
}

// SettleLease says that the longest lease before the change at Index has run out
// everywhere. The leader proposes it after waiting twice that promise.
type SettleLease struct {
	Index uint64 `json:"index"`
}

// RecordFailover keeps the timeline of a failover.
type RecordFailover struct {
	Failover Failover `json:"failover"`
}

func (InitCluster) kind() string    { return "init-cluster" }
func (CreateToken) kind() string    { return "create-token" }
func (AddNode) kind() string        { return "add-node" }
func (UpdateNode) kind() string     { return "update-node" }
func (RemoveNode) kind() string     { return "remove-node" }
func (ReportENIs) kind() string     { return "report-enis" }
func (SetENI) kind() string         { return "set-eni" }
func (CreateSubnet) kind() string   { return "create-subnet" }
func (DeleteSubnet) kind() string   { return "delete-subnet" }
func (CreateHAVIP) kind() string    { return "create-havip" }
func (UpdateHAVIP) kind() string    { return "update-havip" }
func (DeleteHAVIP) kind() string    { return "delete-havip" }
func (OpenSession) kind() string    { return "open-session" }
func (DrainSession) kind() string   { return "drain-session" }
func (CloseSession) kind() string   { return "close-session" }
func (Place) kind() string          { return "place" }
func (Release) kind() string        { return "release" }
func (ReportEvent) kind() string    { return "report-event" }
func (SetLease) kind() string       { return "set-lease" }
func (SettleLease) kind() string    { return "settle-lease" }
func (RecordFailover) kind() string { return "record-failover" }

// kinds are the types of all bodies and the levels at which they were added, by kind. It is
// made once: an entry is looked up for each command, several times.
var kinds = func() map[string]kindOf {
	out := map[string]kindOf{}
	for _, b := range allBodies() {
		out[b.kind()] = kindOf{reflect.TypeOf(b).Elem(), addedAt(b.kind())}
	}
	return out
}()

type kindOf struct {
	body  reflect.Type
	level int
}

// newBody gives an empty body to decode into.
func newBody(kind string) (Body, bool) {
	k, known := kinds[kind]
	if !known {
		return nil, false
	}
	b, ok := reflect.New(k.body).Interface().(Body)
	return b, ok
}

// kindLevel is the level at which a kind was added.
func kindLevel(kind string) int { return max(1, kinds[kind].level) }

// allBodies are empty bodies of all kinds.
func allBodies() []Body {
	return append(slices.Concat(level2Bodies(), edgeBodies(), rightsBodies(), keyBodies(), doorBodies(), voteBodies(), webhookBodies(), checkBodies(), addressBodies()),
		&InitCluster{}, &CreateToken{}, &AddNode{}, &UpdateNode{}, &RemoveNode{}, &ReportENIs{}, &SetENI{},
		&CreateSubnet{}, &DeleteSubnet{}, &CreateHAVIP{}, &UpdateHAVIP{}, &DeleteHAVIP{},
		&OpenSession{}, &DrainSession{}, &CloseSession{}, &Place{}, &Release{}, &ReportEvent{},
		&SetLease{}, &SettleLease{}, &RecordFailover{},
	)
}
