package scenario

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/jepsen/netns"
	"havip-cluster/membership/identity"
)

// door is the API of a node as somebody in the lab sees it.
type door struct {
	client *http.Client
	base   string
}

// from opens node i's API from a host, with the certificate of an identity, nil for none.
func (b *Bed) from(h *netns.Host, i int, id *identity.Identity) door {
	b.t.Helper()
	first, err := identity.Load(b.Cluster.DataDir(1))
	b.must(err)
	conf := identity.JoinTLS(first.ClusterID, identity.Fingerprint(first.Issuer()))
	if id != nil {
		conf = id.ClientTLS()
	}
	transport := &http.Transport{TLSClientConfig: conf, DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		return conn, errors.Join(err, h.Do(func() error {
			var dialErr error
			conn, dialErr = net.DialTimeout(network, addr, ownedWait)
			return dialErr
		}))
	}}
	b.t.Cleanup(transport.CloseIdleConnections)
	return door{&http.Client{Transport: transport, Timeout: time.Minute}, fmt.Sprintf("https://%s:7400", b.Lab.Node(i).IP(0))}
}

// socket opens node i's API over its local socket, as root.
func (b *Bed) socket(i int) door {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", identity.SocketPath(b.Cluster.DataDir(i)))
	}}
	b.t.Cleanup(transport.CloseIdleConnections)
	return door{&http.Client{Transport: transport, Timeout: time.Minute}, "http://local"}
}

func (d door) ask(method, path string, body []byte, header ...string) (status int, answer []byte, err error) {
	req, err := http.NewRequest(method, d.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

func (b *Bed) holdsKey(i int) bool {
	_, err := os.Stat(filepath.Join(b.Cluster.DataDir(i), "ca.key"))
	return err == nil
}

// takeovers is what a member would send to take the cluster.
var takeovers = []struct{ method, path, body string }{
	{"POST", "/v1/tokens", `{"node":"mine","role":"voter"}`},
	{"POST", "/v1/access-tokens", `{"name":"mine","role":"admin"}`},
	{"POST", "/v1/havips", `{"name":"mine","ip":"10.77.0.150"}`},
	{"DELETE", "/v1/havips/web?release=true", ""},
	{"POST", "/v1/havips/web/move", `{"to":"node-3"}`},
	{"POST", "/v1/havips/web/disable", ""},
	{"PATCH", "/v1/nodes/node-1", `{"standby":true}`},
	{"DELETE", "/v1/nodes/node-1?force=true", ""},
	{"PATCH", "/v1/cluster", `{"ca_holders":5}`},
	{"PATCH", "/v1/cluster", `{"maintenance":true}`},
	{"POST", "/v1/apply", "version: 1\nhavips: []\n"},
}

// TestAMemberOfRoleAgentIsNoAdmin: with its certificate, with every lie that it can tell, through
// every node, and as root on its host, it takes nothing; what it must do it may.
func TestAMemberOfRoleAgentIsNoAdmin(t *testing.T) {
	beside(t)
	b := newBed(t, 3, 2)
	b.must(b.Cluster.Join(3, "agent"))
	if b.holdsKey(3) || !b.holdsKey(1) || !b.holdsKey(2) {
		t.Fatal("the CA's key is at the agent, or not at the voters")
	}
	id, err := identity.Load(b.Cluster.DataDir(3))
	b.must(err)
	lies := [][]string{nil, {"Havip-Hops", "1"}}
	for _, who := range []string{"root", "node:" + id.NodeID, "token:admin", "admin"} {
		lies = append(lies, []string{"Havip-Hops", "1", "Havip-Caller", who})
	}
	first, err := identity.Load(b.Cluster.DataDir(1))
	b.must(err)
	lies = append(lies, []string{"Havip-Hops", "1", "Havip-Caller", "node:" + first.NodeID, "Havip-Source", "10.77.0.11"})
	tried := 0
	for at := 1; at <= 2; at++ {
		d := b.from(b.Lab.Node(3), at, id)
		for _, x := range takeovers {
			for _, lie := range lies {
				status, answer, err := d.ask(x.method, x.path, []byte(x.body), lie...)
				for again := 1; again < attempts && err == nil && lie == nil && status >= http.StatusBadGateway; again++ { // nobody leads just then
					status, answer, err = d.ask(x.method, x.path, []byte(x.body))
				}
				b.must(err)
				// A follower does not forward what was forwarded: nothing is done there either.
				if status != http.StatusForbidden && !(status == http.StatusServiceUnavailable && lie != nil) {
					t.Errorf("%s %s at node-%d, saying %v: %d %s", x.method, x.path, at, lie, status, answer)
				}
				tried++
			}
		}
	}
	t.Logf("%d attempts", tried)
	// Root at its host: no admin, and the care of its own node.
	b.refused(3, 1, "role admin", "havip", "create", "mine", "--ip", "10.77.0.151")
	b.refused(3, 1, "role operator", "node", "standby", "node-1")
	b.refused(3, 1, "role admin", "node", "add", "mine")
	b.CLI(3, "node", "standby", "node-3")
	b.CLI(3, "node", "activate", "node-3")
	b.CLI(3, "node", "maintenance", "node-3", "on")
	b.CLI(3, "node", "maintenance", "node-3", "off")
	b.CLI(3, "havip", "list")
	// A token makes root there what the token is.
	b.Cluster.Env = append(b.Cluster.Env, "HAVIP_TOKEN="+b.accessToken(1, "for-node-3", "admin"))
	b.CLI(3, "havip", "create", "allowed", "--ip", "10.77.0.152")
	b.Cluster.Env = nil
	// Everything is on record.
	record := string(b.CLI(1, "audit", "-o", "json"))
	for _, word := range []string{`"node:node-3"`, `"root@node-3"`, `"token:for-node-3"`, `"UnauthorizedOperation"`, `"10.77.0.13"`} {
		if !strings.Contains(record, word) {
			t.Errorf("%s is not in the record", word)
		}
	}
	if b.Owner() == 0 {
		t.Error("no owner")
	}
}

// accessToken makes a token at node i.
func (b *Bed) accessToken(i int, name, role string, more ...string) string {
	b.t.Helper()
	var made struct {
		Token string `json:"token"`
	}
	b.must(json.Unmarshal(b.CLI(i, append([]string{"token", "create", name, "--role", role, "-o", "json"}, more...)...), &made))
	return made.Token
}

// TestTheCAsKeyGoesToFew: with one holder, the other voters have none; a leader without it lets
// nodes in all the same, and gives nothing.
func TestTheCAsKeyGoesToFew(t *testing.T) {
	beside(t)
	b := unformed(t, 4)
	b.must(b.Cluster.Bootstrap())
	b.CLI(1, "cluster", "set", "ca-holders=1")
	b.must(b.Cluster.Join(2, "voter"))
	b.must(b.Cluster.Join(3, "voter"))
	b.WaitVoters(3)
	if b.holdsKey(2) || b.holdsKey(3) {
		t.Error("more nodes than one hold the CA's key")
	}
	b.must(b.Cluster.Stop(1)) // hands leadership over
	b.must(b.Cluster.Start(1))
	b.WaitSessions(3)
	leader := b.Leader()
	for again := 1; again < attempts && leader == 1; again++ { // a busy host may have elected it anew
		b.must(b.Cluster.Restart(1))
		b.WaitSessions(3)
		leader = b.Leader()
	}
	if leader == 1 {
		t.Fatal("node-1 leads: this run shows nothing")
	}
	b.must(b.Cluster.JoinVia(leader, 4, "voter"))
	if b.holdsKey(4) {
		t.Error("a leader without the key has given it")
	}
	var c struct {
		HeldBy []string `json:"ca_held_by"`
	}
	b.must(json.Unmarshal(b.CLI(4, "cluster", "show", "-o", "json"), &c))
	if !slices.Equal(c.HeldBy, []string{"node-1"}) {
		t.Errorf("held by %v", c.HeldBy)
	}
	// Without a holder nobody is let in, in words, and no token is lost.
	b.must(b.Cluster.Stop(1))
	leader = b.Leader()
	b.refused(leader, 1, "member already", "node", "add", "node-4")
}

// TestTokensFromElsewhere: a host that is no member, with a token and the CA's certificate.
func TestTokensFromElsewhere(t *testing.T) {
	beside(t)
	b := newBed(t, 3, 2)
	dir := t.TempDir()
	ca, err := os.ReadFile(filepath.Join(b.Cluster.DataDir(1), "ca.crt"))
	b.must(err)
	caFile := filepath.Join(dir, "ca.crt")
	b.must(os.WriteFile(caFile, ca, 0o600))
	b.CLI(1, "havip", "create", "db", "--ip", "10.77.0.101")
	b.CLI(1, "havip", "create", "api", "--ip", "10.77.0.102")
	b.CLI(1, "group", "create", "fronts", "--apart", "--soft", "web", "db")
	tokenFile := filepath.Join(dir, "token")
	elsewhere := func(token string, args ...string) (string, error) {
		b.must(os.WriteFile(tokenFile, []byte(token+"\n"), 0o600))
		cmd := b.Lab.Client().Command(b.Cluster.Binary, append([]string{
			"--data-dir", filepath.Join(dir, "none"), "--address", fmt.Sprintf("https://%s:7400", b.Lab.Node(2).IP(0)), "--ca-file", caFile, "--token-file", tokenFile,
		}, args...)...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		b.must(b.Lab.Client().Start(cmd))
		err := cmd.Wait()
		return out.String(), err
	}
	may := func(token, word string, args ...string) {
		t.Helper()
		if out, err := elsewhere(token, args...); err != nil {
			t.Errorf("%s: %v: %v %s", word, args, err, out)
		}
	}
	mayNot := func(token, says string, args ...string) {
		t.Helper()
		out, err := elsewhere(token, args...)
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(out, says) {
			t.Errorf("%v: %v %s; want %q", args, err, out, says)
		}
	}
	viewer, ops := b.accessToken(1, "see", "viewer"), b.accessToken(2, "ops", "operator", "--group", "fronts", "--ttl", "1h")
	may(viewer, "viewer", "status")
	may(viewer, "viewer", "token", "list")
	mayNot(viewer, "role operator", "havip", "disable", "web")
	may(ops, "operator", "havip", "disable", "db")
	may(ops, "operator", "havip", "enable", "db")
	mayNot(ops, "group fronts", "havip", "disable", "api")
	mayNot(ops, "role admin", "havip", "delete", "db")
	mayNot(ops, "group fronts", "node", "standby", "node-1")
	b.CLI(1, "token", "revoke", "ops")
	mayNot(ops, "revoked", "havip", "disable", "db")
	mayNot(viewer[:len(viewer)-1], "cut off or mistyped", "status")
	out := string(b.CLI(1, "audit", "-o", "json"))
	for _, word := range []string{`"token:ops"`, `10.77.0.201 via node-2`, `"disable-havip"`, `"refused"`} {
		if !strings.Contains(out, word) {
			t.Errorf("%s is not in the record", word)
		}
	}
	if strings.Contains(out, ops) || strings.Contains(out, viewer) {
		t.Error("the record holds a token")
	}
}

// TestJoinTokensAreNotSeen: while a node joins with the printed command, nobody finds the token
// among the processes; by file, standard input and environment.
func TestJoinTokensAreNotSeen(t *testing.T) {
	beside(t)
	b := newBed(t, 4, 1)
	for i, how := range []string{"file", "standard input", "environment"} {
		node := i + 2
		name := b.Cluster.NodeName(node)
		var added struct{ Token, Command string }
		b.must(json.Unmarshal(b.CLI(1, "node", "add", name, "-o", "json"), &added))
		if strings.Contains(added.Command, added.Token) || !strings.Contains(added.Command, "--token-file -") {
			t.Errorf("the printed command: %s", added.Command)
		}
		args := []string{"--data-dir", b.Cluster.DataDir(node), "join", "--node", name, "--advertise", b.Lab.Node(node).IP(0).String(), b.Lab.Node(1).IP(0).String() + ":7400", "--timeout", "20s"}
		cmd := b.Lab.Node(node).Command(b.Cluster.Binary, args...)
		switch how {
		case "file":
			file := filepath.Join(t.TempDir(), "token")
			b.must(os.WriteFile(file, []byte(added.Token), 0o600))
			cmd.Args = append(cmd.Args, "--token-file", file)
		case "standard input":
			cmd.Args, cmd.Stdin = append(cmd.Args, "--token-file", "-"), strings.NewReader(added.Token+"\n")
		default:
			cmd.Env = append(os.Environ(), "HAVIP_TOKEN="+added.Token)
		}
		b.must(b.Lab.Node(1).SetLink(0, false)) // so that it takes its time
		b.must(b.Lab.Node(node).Start(cmd))
		time.Sleep(300 * time.Millisecond)
		lines, looked := commandLines(t)
		if strings.Contains(lines, added.Token) || !strings.Contains(lines, name) {
			t.Errorf("%s: the token is seen, or the process is not; %d processes", how, looked)
		}
		b.must(b.Lab.Node(1).SetLink(0, true))
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		b.must(b.Cluster.Start(node))
		b.WaitSessions(node)
	}
}

// commandLines is what everybody can read of all processes.
func commandLines(t *testing.T) (string, int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, f := range files {
		text, _ := os.ReadFile(f) // it may have ended
		all.Write(bytes.ReplaceAll(text, []byte{0}, []byte{' '}))
		all.WriteByte('\n')
	}
	return all.String(), len(files)
}

// TestBodiesThatCost: configurations that are dear to a reader of YAML, many at once, by one who may
// send them: the leader leads on, no HAVIP is lost, and its memory stays bounded. By one who may
// not, they are not even read.
func TestBodiesThatCost(t *testing.T) {
	long(t)
	b := newBed(t, 4, 3)
	b.must(b.Cluster.Join(4, "agent"))
	id, err := identity.Load(b.Cluster.DataDir(4))
	b.must(err)
	leader := b.Leader()
	b.Place(leader)
	pid, err := b.Cluster.AgentPID(leader)
	b.must(err)
	const size = 8 << 20
	again := func(s string) []byte { return []byte(strings.Repeat(s, (size-1<<10)/len(s))) }
	bodies := map[string][]byte{
		"entries": again("- \n"), "deep": again("- - "), "flow": append([]byte("["), again("[],")...), "comments": again("a: b # x\n"), "anchors": again("- &a b\n"),
		"as many as are read": append([]byte("version: 1\nhavips:\n"), bytes.Repeat([]byte("  - name: a\n    ip: 10.77.0.9\n    range: {type: cvm, members: [node-1, node-2]}\n"), 60000)...),
		"HAVIPs":              append([]byte("version: 1\nhavips:\n"), again("  - name: a\n    ip: 10.77.0.9\n    range: {type: cvm, members: [node-1, node-2]}\n")...),
	}
	member := b.from(b.Lab.Node(4), leader, id)
	status, _, err := member.ask("POST", "/v1/apply", bodies["entries"])
	if err == nil && status != http.StatusForbidden {
		t.Errorf("a member of role agent: %d", status)
	}
	before := memory(t, pid)
	m := b.Watch(func() {
		var group sync.WaitGroup
		for what, body := range bodies {
			for range 2 {
				group.Go(func() {
					d, began := b.socket(leader), time.Now()
					status, answer, err := d.ask("POST", "/v1/apply", body)
					if err != nil || status < 400 || status >= 500 && status != http.StatusServiceUnavailable {
						t.Errorf("%s: %d %.200s %v", what, status, answer, err)
					}
					t.Logf("%-10s %d after %s: %.100s", what, status, time.Since(began).Round(time.Millisecond), answer)
				})
			}
		}
		group.Wait()
	})
	noDual(t, m)
	grown := memory(t, pid) - before
	t.Logf("gap %s, memory + %d MiB at most", m.Gap, grown>>20)
	if grown > 1<<30 {
		t.Errorf("the leader's memory grew by %d MiB", grown>>20)
	}
	if now := b.Leader(); now != leader || b.Owner() != leader {
		t.Errorf("node-%d leads and node-%d owns, node-%d did both before", now, b.Owner(), leader)
	}
	if m.Gap > 2*Lease {
		timely(t, "a gap of %s", m.Gap)
	}
}

// memory is the most that a process has ever had in memory, in bytes.
func memory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// TestIdleConnections: as many as nobody could hold with 1,024 descriptors, from somebody without
// a key, silent or with a finished handshake: the CLI answers, changes go through, voters that
// restart come back, and the HAVIP is served.
func TestIdleConnections(t *testing.T) {
	b := unformedIn(t, netns.Options{Nodes: 3, Clients: 6})
	b.form(3)
	leader := b.Leader()
	pid, err := b.Cluster.AgentPID(leader)
	b.must(err)
	few := unix.Rlimit{Cur: 1024, Max: 1024}
	b.must(unix.Prlimit(pid, unix.RLIMIT_NOFILE, &few, nil))
	target := fmt.Sprintf("%s:7400", b.Lab.Node(leader).IP(0))
	conf := b.from(b.Lab.Client(), leader, nil).client.Transport.(*http.Transport).TLSClientConfig
	m := b.Watch(func() {
		var conns []net.Conn
		defer func() {
			for _, c := range conns {
				_ = c.Close()
			}
		}()
		for i := range 1200 {
			h := b.Lab.Clients()[i%len(b.Lab.Clients())]
			b.must(h.Do(func() error {
				c, err := net.DialTimeout("tcp", target, 2*time.Second)
				if err == nil {
					conns = append(conns, c)
				}
				return nil
			}))
			if i%3 == 0 && len(conns) > 0 {
				c := tls.Client(conns[len(conns)-1], conf)
				_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
				_ = c.Handshake() // the door may have closed it already
			}
		}
		open := descriptors(t, pid)
		t.Logf("%d connections were made; the leader has %d descriptors", len(conns), open)
		if len(conns) < 1000 || open > 600 {
			t.Errorf("%d connections, %d descriptors", len(conns), open)
		}
		other := b.other(leader)
		b.CLI(leader, "status")                                          // the local socket
		b.CLI(other, "havip", "create", "during", "--ip", "10.77.0.140") // a member through TLS
		b.must(b.Cluster.Restart(other))                                 // Raft takes new connections
		b.Eventually("the voter is back", func() bool {
			nodes, err := b.Cluster.Nodes()
			return err == nil && !slices.ContainsFunc(nodes, func(n netns.NodeStatus) bool { return n.Session == 0 })
		})
	})
	noDual(t, m)
	t.Logf("gap %s", m.Gap)
}

// descriptors counts the open files of a process.
func descriptors(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
