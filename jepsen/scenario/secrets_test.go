package scenario

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"havip-cluster/jepsen/fakecloud"
)

// TestSecretsAreNowhere: a cluster lives beside a cloud, with changes, a token, new keys, a failover and a bundle.
// No secret of it is in what a command printed, but for the tokens where they were made, in a log or in a bundle; those
// of the cloud are in no file of a node either.
func TestSecretsAreNowhere(t *testing.T) {
	long(t)
	b := inCloud(t)
	said := map[string][]byte{} // what was printed, by command
	do := func(i int, args ...string) []byte {
		t.Helper()
		out := b.CLI(i, args...)
		said[fmt.Sprint(i, args)] = out
		return out
	}
	var made struct{ Token string }
	b.must(json.Unmarshal(b.CLI(1, "token", "create", "ci", "--role", "admin", "-o", "json"), &made))
	var join struct{ Token string }
	b.must(json.Unmarshal(b.CLI(1, "node", "add", "node-9", "-o", "json"), &join))
	if made.Token == "" || join.Token == "" {
		t.Fatal("no token was printed")
	}
	secrets := map[string]string{"access token": made.Token, "join token": join.Token}
	gather := func() {
		for i := 1; i <= 3; i++ {
			for _, name := range []string{"node.key", "ca.key", "gossip.key"} {
				raw, err := os.ReadFile(filepath.Join(b.Cluster.DataDir(i), name))
				if errors.Is(err, os.ErrNotExist) {
					continue
				}
				b.must(err)
				for line := range strings.Lines(string(raw)) {
					if line = strings.TrimSpace(line); len(line) >= 20 && !strings.HasPrefix(line, "-----") {
						secrets[fmt.Sprint(name, " of node ", i, " ", len(secrets))] = line
					}
				}
			}
		}
	}
	gather()
	do(1, "keys", "rotate", "gossip")
	do(1, "provider", "sync", "--to-cloud")
	b.cloud.SetFault(fakecloud.Fault{Signature: true})
	b.Eventually("wrong credentials are told", func() bool { return hasLine(string(do(b.Leader(), "status")), "the cloud (tencent)") })
	b.cloud.SetFault(fakecloud.Fault{})
	for _, verb := range []string{
		"status", "node list", "havip list", "placement", "explain web", "events", "failovers", "audit", "token list", "keys status", "cluster show", "export", "eni list", "subnet list", "revisions", "status -o json", "cluster show -o json", "havip show web -o json",
		"provider test", "provider test -o json", "provider show", "provider show -o json", "havip observed -o json",
	} {
		for i := 1; i <= 3; i++ {
			do(i, strings.Fields(verb)...)
		}
	}
	old := b.Owner()
	b.must(b.Cluster.KillAgent(old))
	b.must(b.Cluster.AwaitEnd(old))
	b.must(b.Cluster.Start(old))
	b.WaitSessions(3)
	gather()
	for i := 1; i <= 3; i++ {
		file := filepath.Join(t.TempDir(), "bundle.tar.gz")
		do(i, "debug", "bundle", "-f", file)
		parts := unpacked(t, file)
		for _, name := range []string{"log.txt", "goroutines.txt", "routes-ipv4.txt", "sysctls.txt", "drivers.txt", "fence.json", "metrics.txt"} {
			if len(parts["havip-cluster-debug/"+name]) == 0 {
				t.Errorf("the bundle of node %d lacks %s", i, name)
			}
		}
		for name, content := range parts {
			said[fmt.Sprint("bundle of ", i, ": ", name)] = content
		}
		raw, err := os.ReadFile(b.Cluster.LogPath(i))
		b.must(err)
		said[fmt.Sprint("log of ", i)] = raw
	}
	for n, secret := range b.cloud.Secrets() {
		secrets[fmt.Sprint("secret of the cloud ", n)] = secret
	}
	b.cloudSecretsInFiles()
	if len(secrets) < 11 {
		t.Fatalf("only %d secrets are looked for", len(secrets))
	}
	for what, secret := range secrets {
		for where, text := range said {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s is in %s", what, where)
			}
		}
	}
	t.Logf("%d secrets, %d outputs", len(secrets), len(said))
}

// unpacked are the files of a bundle.
func unpacked(t *testing.T, file string) map[string][]byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err == nil {
			out[head.Name], err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// cloudSecretsInFiles looks for the cloud's secrets in the data directories.
func (b *cloudBed) cloudSecretsInFiles() {
	b.t.Helper()
	for i := range b.Lab.Nodes() {
		b.must(filepath.WalkDir(b.Cluster.DataDir(i+1), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			raw, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			for _, secret := range b.cloud.Secrets() {
				if bytes.Contains(raw, []byte(secret)) {
					b.t.Errorf("%s has a secret of the cloud", path)
				}
			}
			return err
		}))
	}
}
