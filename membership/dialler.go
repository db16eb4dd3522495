package membership

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	askTimeout   = 2 * time.Second // for a question about servers, both sides
	serversBytes = 64 << 10        // of an answer; a server has about 100
)

// dialler makes Raft's connections to others. It is raft's stream layer without a listener,
// because boundTransport reads what comes in.
type dialler struct {
	client func(node string) *tls.Config
	local  net.Addr
	roster *roster // set before Raft starts
	ended  func(node string, cs tls.ConnectionState) error

	closed chan struct{}
	once   sync.Once

	taken chan struct{} // gets a token when a spare is taken

	mu     sync.Mutex
	open   map[*dialled]struct{}
	spares map[raft.ServerAddress][]*dialled // ready and unused, at most sparesKept for each voter; they are in open too
}

func newDialler(client func(node string) *tls.Config, local net.Addr) *dialler {
	return &dialler{
		client: client, local: local, closed: make(chan struct{}), taken: make(chan struct{}, 1),
		open: map[*dialled]struct{}{}, spares: map[raft.ServerAddress][]*dialled{},
	}
}

// dialled is a connection to a node at an address.
type dialled struct {
	net.Conn
	d       *dialler
	node    string
	address raft.ServerAddress
	made    time.Time
}

// Close implements net.Conn.
func (c *dialled) Close() error {
	c.d.mu.Lock()
	delete(c.d.open, c)
	c.d.mu.Unlock()
	return c.Conn.Close()
}

// Accept implements net.Listener: nothing comes in here.
func (d *dialler) Accept() (net.Conn, error) {
	<-d.closed
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (d *dialler) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

// Addr implements net.Listener.
func (d *dialler) Addr() net.Addr { return d.local }

// Dial implements raft.StreamLayer. Whoever answers must be the node that the latest
// configuration has at the address.
func (d *dialler) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if c := d.spare(address); c != nil {
		return c, nil
	}
	c, err := d.connection(context.Background(), address, timeout)
	if err != nil {
		return nil, err // not a nil *dialled
	}
	return c, nil
}

// connection makes a connection to the node that the latest configuration has at an address.
func (d *dialler) connection(ctx context.Context, address raft.ServerAddress, timeout time.Duration) (*dialled, error) {
	node, ok := d.roster.at(address)
	if !ok {
		return nil, fmt.Errorf("membership: no server of the latest configuration is at %s", address)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := d.connect(ctx, node, address, protoRaft)
	if err != nil {
		return nil, err
	}
	c := &dialled{conn, d, node, address, time.Now()}
	d.mu.Lock()
	d.open[c] = struct{}{}
	d.mu.Unlock()
	return c, nil
}

func (d *dialler) connect(ctx context.Context, node string, address raft.ServerAddress, proto string) (*tls.Conn, error) {
	conf := d.client(node)
	conf.NextProtos = []string{proto}
	plain := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeEvery, Interval: probeEvery}}
	conn, err := (&tls.Dialer{NetDialer: plain, Config: conf}).DialContext(ctx, "tcp", string(address))
	if err != nil {
		return nil, err
	}
	secure := conn.(*tls.Conn)
	if d.ended != nil {
		if err := d.ended(node, secure.ConnectionState()); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return secure, nil
}

// cut ends the connections to whom the latest configuration does not have any more.
func (d *dialler) cut() {
	d.mu.Lock()
	var gone []*dialled
	for c := range d.open {
		if node, ok := d.roster.at(c.address); !ok || node != c.node {
			gone = append(gone, c)
		}
	}
	d.mu.Unlock()
	for _, c := range gone {
		_ = c.Close()
	}
}

// ask asks a voter for the servers of its latest configuration.
func (d *dialler) ask(ctx context.Context, voter raft.Server) (servers, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := d.connect(ctx, string(voter.ID), voter.Address, protoServers)
	if err != nil {
		return servers{}, err
	}
	defer conn.Close()
	if conn.ConnectionState().NegotiatedProtocol != protoServers {
		return servers{}, fmt.Errorf("membership: node %s runs a version that does not tell its servers", voter.ID)
	}
	_ = conn.SetDeadline(time.Now().Add(askTimeout))
	var got servers
	err = json.NewDecoder(io.LimitReader(conn, serversBytes)).Decode(&got)
	return got, err
}

// answer tells a member the servers of the latest configuration.
func (r *roster) answer(conn net.Conn, node string) error {
	if !r.member(node) {
		return fmt.Errorf("%w: node %s asks for the servers and is none", ErrNoSpeaker, node)
	}
	_ = conn.SetDeadline(time.Now().Add(askTimeout))
	list, index := r.book.latest()
	_ = json.NewEncoder(conn).Encode(servers{index, list}) // one that goes away is no harm
	return nil
}
