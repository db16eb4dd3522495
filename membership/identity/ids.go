package identity

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

const (
	clusterPrefix = "c-"
	nodePrefix    = "n-"
	tokenPrefix   = "t-"

	idBytes     = 8  // random bytes of an id: 16 hex characters
	nodeNameMax = 63 // characters, the length of a DNS label
)

// Role says what a node does in the cluster.
type Role string

const (
	RoleVoter   Role = "voter"   // votes in Raft elections and may own HAVIPs
	RoleWitness Role = "witness" // votes, owns no HAVIP
	RoleAgent   Role = "agent"   // replicates only, and may own HAVIPs
)

// roles lists every role; a role's index is its code in a join token. Append only.
var roles = []Role{RoleVoter, RoleWitness, RoleAgent}

// ParseRole returns the role called s, or ErrInvalid.
func ParseRole(s string) (Role, error) {
	for _, r := range roles {
		if s == string(r) {
			return r, nil
		}
	}
	return "", fmt.Errorf("%w: role %q: choose voter, witness or agent", ErrInvalid, s)
}

// NewClusterID returns a random cluster id: "c-" and 16 hex characters.
func NewClusterID() string { return newID(clusterPrefix) }

// NewNodeID returns a random node id: "n-" and 16 hex characters.
func NewNodeID() string { return newID(nodePrefix) }

func newID(prefix string) string {
	var b [idBytes]byte
	rand.Read(b[:]) // crypto/rand: never fails, the process ends instead
	return prefix + hex.EncodeToString(b[:])
}

// CheckClusterID returns ErrInvalid unless id has the form of NewClusterID.
func CheckClusterID(id string) error { return checkID("cluster id", clusterPrefix, id) }

// CheckNodeID returns ErrInvalid unless id has the form of NewNodeID.
func CheckNodeID(id string) error { return checkID("node id", nodePrefix, id) }

func checkID(kind, prefix, id string) error {
	digits, found := strings.CutPrefix(id, prefix)
	if found && len(digits) == 2*idBytes && strings.Trim(digits, "0123456789abcdef") == "" {
		return nil
	}
	return fmt.Errorf("%w: %s %q is not %q and %d hex digits", ErrInvalid, kind, id, prefix, 2*idBytes)
}

// CheckNodeName returns ErrInvalid unless name can be a DNS name in a certificate:
// 1 to 63 characters a-z, 0-9, '-' and '.', with a letter or digit at both ends of
// every part between dots.
func CheckNodeName(name string) error {
	bad := func(why string) error {
		return fmt.Errorf("%w: node name %q %s; use 1 to %d of a-z, 0-9, '-' and '.', for example node-1",
			ErrInvalid, name, why, nodeNameMax)
	}
	if name == "" {
		return bad("is empty")
	}
	if len(name) > nodeNameMax {
		return bad(fmt.Sprintf("has %d characters", len(name)))
	}
	for _, c := range name {
		if !isAlnum(c) && c != '-' && c != '.' {
			return bad(fmt.Sprintf("contains %q", c))
		}
	}
	for part := range strings.SplitSeq(name, ".") {
		if part == "" {
			return bad("starts or ends with a dot, or has two in a row")
		}
		if part[0] == '-' || part[len(part)-1] == '-' {
			return bad("has a '-' at the start or end of a part")
		}
	}
	return nil
}

func isAlnum(c rune) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// CheckAdvertise returns ErrInvalid unless other nodes can send to addr: a unicast
// address that means the same on every host. Loopback passes, so that a whole
// cluster can run on one machine.
func CheckAdvertise(addr netip.Addr) error {
	var why string
	switch {
	case !addr.IsValid():
		return fmt.Errorf("%w: advertise address is missing; give the IP by which the other nodes reach this one", ErrInvalid)
	case addr.IsUnspecified():
		why = "means any address"
	case addr.IsMulticast():
		why = "is a multicast address"
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		why = "is the broadcast address"
	case addr.Is4In6():
		why = "is IPv4 written as IPv6 (write " + addr.Unmap().String() + ")"
	case addr.Zone() != "" || addr.Is6() && addr.IsLinkLocalUnicast():
		why = "is link-local, it means another host on every link"
	default:
		return nil
	}
	return fmt.Errorf("%w: advertise address %s %s; give the IP by which the other nodes reach this one", ErrInvalid, addr, why)
}

// CheckPort returns ErrInvalid unless port is in 1..65535; what names the port.
func CheckPort(what string, port int) error {
	if port < 1 || port > 65535 {
		return fmt.Errorf("%w: %s port %d is not in 1..65535", ErrInvalid, what, port)
	}
	return nil
}

// Ports are the ports of a node. The gossip port is used with TCP and UDP, the lease port with
// UDP alone; Lease is 0 for a node of a program that has none.
type Ports struct{ API, Raft, Gossip, Lease int }

// DefaultPorts are the ports of a node that was told nothing else.
var DefaultPorts = Ports{API: 7400, Raft: 7401, Gossip: 7402, Lease: 7403}

// withLease fills in the lease port of a node that was made by a program without one: the
// default, or the next one that the node itself does not use.
func (p Ports) withLease() Ports {
	if p.Lease == 0 {
		for p.Lease = DefaultPorts.Lease; p.Lease == p.API || p.Lease == p.Raft || p.Lease == p.Gossip; {
			p.Lease++
		}
	}
	return p
}

// Check returns ErrInvalid when a port is out of range or used twice.
func (p Ports) Check() error {
	for _, port := range []struct {
		what  string
		value int
	}{{"api", p.API}, {"raft", p.Raft}, {"gossip", p.Gossip}} {
		if err := CheckPort(port.what, port.value); err != nil {
			return err
		}
	}
	if p.API == p.Raft || p.API == p.Gossip || p.Raft == p.Gossip {
		return fmt.Errorf("%w: ports api %d, raft %d and gossip %d must differ", ErrInvalid, p.API, p.Raft, p.Gossip)
	}
	if p.Lease == 0 {
		return nil
	}
	if p.Lease == p.API || p.Lease == p.Raft || p.Lease == p.Gossip {
		return fmt.Errorf("%w: lease port %d must differ from api %d, raft %d and gossip %d", ErrInvalid, p.Lease, p.API, p.Raft, p.Gossip)
	}
	return CheckPort("lease", p.Lease)
}
