package identity

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCreateThenLoad(t *testing.T) {
	dir, spec := filepath.Join(tempDir(t), "deep", "data"), newSpec(t)
	check(t, Create(dir, spec))
	id := must[*Identity](t)(Load(dir))
	if id.Settings != spec.Settings {
		t.Errorf("got %+v, want %+v", id.Settings, spec.Settings)
	}
	if id.Authority() == nil || len(id.GossipKeys()[0]) != 32 || id.Dir != dir || id.Role != RoleVoter || id.Timers().Lease != 150*time.Millisecond {
		t.Errorf("got %+v", id)
	}
	for name, want := range map[string]fs.FileMode{
		"": 0o700, "raft": 0o700, "ca.key": 0o600, "node.key": 0o600, "gossip.key": 0o600, "lock": 0o600,
	} {
		info := must[fs.FileInfo](t)(os.Stat(filepath.Join(dir, name)))
		if info.Mode().Perm() != want {
			t.Errorf("%q has mode %v", name, info.Mode())
		}
	}
	for path := range snapshot(t, dir) {
		if strings.HasSuffix(path, tmpSuffix) {
			t.Errorf("%s was left behind", path)
		}
	}
}

func TestCreateWithoutCAKey(t *testing.T) {
	dir := filepath.Join(tempDir(t), "data")
	spec, _ := member(t, newCA(t, clusterA), nodeB, "node-2", addrB, time.Now())
	check(t, Create(dir, spec))
	if id := must[*Identity](t)(Load(dir)); id.Authority() != nil || ClusterOf(id.Issuer()) != clusterA {
		t.Fatalf("got %+v", id)
	}
}

func TestCreateInExistingDirectory(t *testing.T) {
	empty := tempDir(t)
	check(t, os.Chmod(empty, 0o755))
	check(t, Create(empty, newSpec(t)))
	must[*Identity](t)(Load(empty)) // was closed to others

	mount := tempDir(t)
	check(t, os.Mkdir(filepath.Join(mount, "lost+found"), 0o700))
	check(t, Create(mount, newSpec(t)))

	shared := tempDir(t)
	check(t, errors.Join(os.Mkdir(filepath.Join(shared, "theirs"), 0o700), os.Chmod(shared, 0o755)))
	before := snapshot(t, shared)
	wantError(t, Create(shared, newSpec(t)), ErrExposed, "chmod 0700 "+shared)
	wantUnchanged(t, shared, before)
}

func TestCreateRefuses(t *testing.T) {
	root := tempDir(t)
	file := filepath.Join(root, "file")
	check(t, os.WriteFile(file, nil, 0o600))
	good := newSpec(t)
	other := newSpec(t)
	for _, row := range []struct {
		name, dir string
		change    func(s *Spec)
		target    error
		fragment  string
	}{
		{"a file in the way", file, func(*Spec) {}, ErrInvalid, "is a file; name a directory"},
		{"deep", filepath.Join(root, strings.Repeat("d", 100)), func(*Spec) {}, ErrInvalid, "choose a shorter --data-dir"},
		{"name", root + "/d", func(s *Spec) { s.Name = "A" }, ErrInvalid, `node name "A"`},
		{"lease", root + "/d", func(s *Spec) { s.Lease = 0 }, ErrInvalid, "the lease is missing"},
		{"created", root + "/d", func(s *Spec) { s.Created = time.Time{} }, ErrInvalid, "the time of creation is missing"},
		{"role", root + "/d", func(s *Spec) { s.Role = "" }, ErrInvalid, `role ""`},
		{"no CA", root + "/d", func(s *Spec) { s.CACert = nil }, ErrCorrupt, "ca.crt: no PEM block"},
		{"node certificate as CA", root + "/d", func(s *Spec) { s.CACert, s.CAKey = s.Cert, nil }, ErrCorrupt, "not a CA's own certificate"},
		{"foreign CA", root + "/d", func(s *Spec) { s.CACert, s.CAKey = other.CACert, nil }, ErrForeign, "ca.crt: identity: foreign certificate: certificate of cluster " + other.ClusterID},
		{"foreign CA key", root + "/d", func(s *Spec) { s.CAKey = other.CAKey }, ErrCorrupt, "ca.key is not the key of ca.crt"},
		{"gossip key", root + "/d", func(s *Spec) { s.GossipKey = []byte("AAAA") }, ErrCorrupt, "gossip.key is not 32 bytes in base64"},
		{"other address", root + "/d", func(s *Spec) { s.Advertise = addrB }, ErrForeign, "node.crt is for the address [192.0.2.1], identity.json says 192.0.2.2"},
		{"other name", root + "/d", func(s *Spec) { s.Name = "node-9" }, ErrForeign, "identity.json says node-9"},
		{"other node", root + "/d", func(s *Spec) { s.NodeID = nodeB }, ErrForeign, "identity.json says " + nodeB},
	} {
		t.Run(row.name, func(t *testing.T) {
			before, spec := snapshot(t, root), good
			row.change(&spec)
			wantError(t, Create(row.dir, spec), row.target, row.fragment)
			wantUnchanged(t, root, before)
		})
	}
}

func TestCreateRefusesExistingState(t *testing.T) {
	dir := newDir(t)
	before := snapshot(t, dir)
	wantError(t, Create(dir, newSpec(t)), ErrExists, "holds a node; start it with 'havip-cluster agent'")
	wantUnchanged(t, dir, before)
}

// A crash after any step, or in the middle of one, leaves a directory that is refused
// with the way out, and untouched.
func TestCrashDuringCreate(t *testing.T) {
	spec := newSpec(t)
	for done := 0; ; done++ {
		dir := tempDir(t)
		steps := must[[]step](t)(spec.steps(dir))
		if done == len(steps) {
			return
		}
		for _, s := range steps[:done] {
			check(t, s.do())
		}
		if done == 0 {
			_, err := Load(dir)
			wantError(t, err, ErrNoState, "make the first node with 'havip-cluster bootstrap'")
		}
		half := steps[done].path + tmpSuffix
		check(t, os.WriteFile(half, []byte("ha"), 0o600))
		before := snapshot(t, dir)
		_, err := Load(dir)
		wantError(t, err, ErrUnfinished, "remove these files and run bootstrap or join again")
		wantError(t, err, ErrUnfinished, filepath.Base(half))
		wantError(t, Create(dir, spec), ErrUnfinished, "was interrupted")
		wantUnchanged(t, dir, before)
	}
}

// An error, unlike a crash, leaves nothing but the empty directory.
func TestErrorDuringCreateIsUndone(t *testing.T) {
	spec, dir := newSpec(t), tempDir(t)
	steps := must[[]step](t)(spec.steps(dir))
	for _, s := range steps {
		check(t, s.do())
	}
	check(t, undo(steps))
	if entries := must[[]fs.DirEntry](t)(os.ReadDir(dir)); len(entries) != 0 {
		t.Fatalf("left behind: %v", entries)
	}
}

func TestLoadWithoutState(t *testing.T) {
	dir := tempDir(t)
	for _, dir := range []string{dir, filepath.Join(dir, "absent")} {
		_, err := Load(dir)
		wantError(t, err, ErrNoState, "no state in "+dir)
	}
}

func TestLoadRefuses(t *testing.T) {
	other := newDir(t)
	edit := func(name string, change func(text []byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			text := must[[]byte](t)(os.ReadFile(path))
			check(t, os.WriteFile(path, change(text), 0))
		}
	}
	replace := func(name, old, new string) func(*testing.T, string) {
		return edit(name, func(text []byte) []byte {
			if !bytes.Contains(text, []byte(old)) {
				t.Errorf("%s does not contain %q", name, old)
			}
			return bytes.Replace(text, []byte(old), []byte(new), 1)
		})
	}
	half := func(text []byte) []byte { return text[:len(text)/2] }
	none := func([]byte) []byte { return nil }
	drop := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { check(t, os.RemoveAll(filepath.Join(dir, name))) }
	}
	chmod := func(name string, mode fs.FileMode) func(*testing.T, string) {
		return func(t *testing.T, dir string) { check(t, os.Chmod(filepath.Join(dir, name), mode)) }
	}
	swap := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, name := range names {
				text := must[[]byte](t)(os.ReadFile(filepath.Join(other, name)))
				check(t, os.WriteFile(filepath.Join(dir, name), text, 0))
			}
		}
	}
	for _, row := range []struct {
		name     string
		damage   func(t *testing.T, dir string)
		target   error
		fragment string
	}{
		{"open directory", chmod("", 0o750), ErrExposed, "has mode 0750, other users may get at it; run: chmod 0700 "},
		{"open key", chmod("node.key", 0o640), ErrExposed, "node.key has mode 0640"},
		{"open CA key", chmod("ca.key", 0o604), ErrExposed, "chmod 0600 "},
		{"open gossip key", chmod("gossip.key", 0o666), ErrExposed, "gossip.key has mode 0666"},
		{"writable identity", chmod("identity.json", 0o664), ErrExposed, "run: chmod 0644 "},
		{"writable CA", chmod("ca.crt", 0o646), ErrExposed, "ca.crt has mode 0646"},
		{"half identity", edit("identity.json", half), ErrCorrupt, "identity.json: unexpected end of JSON input; restore the files from one backup"},
		{"empty identity", edit("identity.json", none), ErrCorrupt, "identity.json: unexpected end"},
		{"text after identity", edit("identity.json", func(b []byte) []byte { return append(b, '}') }), ErrCorrupt, "invalid character '}'"},
		{"newer format", replace("identity.json", `"format": 2`, `"format": 3`), ErrFormat, "has format 3, this version of havip-cluster reads formats up to 2"},
		{"unknown field", replace("identity.json", `"role"`, `"rule"`), ErrCorrupt, `unknown field "rule"`},
		{"bad lease", replace("identity.json", `"150ms"`, `"soon"`), ErrCorrupt, `invalid duration "soon"`},
		{"bad profile", replace("identity.json", `"lan"`, `"moon"`), ErrCorrupt, `profile "moon"`},
		{"bad port", replace("identity.json", `7401`, `7400`), ErrCorrupt, "must differ"},
		{"bad cluster id", replace("identity.json", `"c-`, `"d-`), ErrCorrupt, `cluster id "d-`},
		{"bad node id", replace("identity.json", `"n-`, `"m-`), ErrCorrupt, `node id "m-`},
		{"lost identity", drop("identity.json"), ErrUnfinished, "but no identity.json"},
		{"lost key", drop("node.key"), ErrCorrupt, "node.key: no such file"},
		{"lost log", drop("raft"), ErrCorrupt, "raft is missing, and with it the log"},
		{"huge key", edit("node.key", func([]byte) []byte { return make([]byte, fileBytesMax+1) }), ErrCorrupt, "not a file of at most 65536 bytes"},
		{"half certificate", edit("node.crt", half), ErrCorrupt, "node.crt: no PEM block"},
		{"half key", edit("node.key", half), ErrCorrupt, "node.key: no PEM block"},
		{"half CA", edit("ca.crt", half), ErrCorrupt, "ca.crt: no PEM block"},
		{"half CA key", edit("ca.key", half), ErrCorrupt, "ca.key: no PEM block"},
		{"half gossip key", edit("gossip.key", half), ErrCorrupt, "gossip.key is not 32 bytes"},
		{"key of another node", swap("node.key"), ErrCorrupt, "node.key is not the key of node.crt"},
		{"certificate of another cluster", swap("node.crt", "node.key"), ErrForeign, "node.crt: identity: foreign certificate: certificate of cluster c-"},
		{"CA of another cluster", swap("ca.crt", "ca.key"), ErrForeign, "ca.crt: identity: foreign certificate: certificate of cluster c-"},
		{"identity of another cluster", swap("identity.json"), ErrForeign, "restore the files from one backup, or remove the node and join it again"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := newDir(t)
			row.damage(t, dir)
			before := snapshot(t, dir)
			_, err := Load(dir)
			wantError(t, err, row.target, row.fragment)
			if err := Create(dir, newSpec(t)); !errors.Is(err, ErrExists) && !errors.Is(err, ErrUnfinished) {
				t.Errorf("Create does not refuse: %v", err)
			}
			wantUnchanged(t, dir, before)
		})
	}
}

func TestLoadWithLogButNoIdentity(t *testing.T) {
	dir := newDir(t)
	check(t, errors.Join(os.Remove(filepath.Join(dir, "identity.json")), os.WriteFile(filepath.Join(RaftDir(dir), "raft.db"), nil, 0o600)))
	before := snapshot(t, dir)
	_, err := Load(dir)
	wantError(t, err, ErrCorrupt, " holds a log, but identity.json is missing")
	wantError(t, Create(dir, newSpec(t)), ErrExists, "holds a log")
	wantUnchanged(t, dir, before)
}

func TestLoadDoesNotWaitForAPipe(t *testing.T) {
	dir := newDir(t)
	path := filepath.Join(dir, "node.key")
	check(t, errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)))
	_, err := Load(dir)
	wantError(t, err, ErrCorrupt, "node.key is not a file")
}

func TestLoadAtAnotherTime(t *testing.T) {
	dir := newDir(t)
	now := time.Now()
	_, err := load(dir, now.AddDate(2, 0, 91), Grace)
	wantError(t, err, ErrExpired, "expired at")
	wantError(t, err, ErrExpired, "keys renew-offline")
	_, err = load(dir, now.AddDate(2, 0, 89), Grace) // it comes back and renews its certificate
	check(t, err)
	_, err = load(dir, now.AddDate(9, 0, 0), forEver)
	check(t, err)
	// The clock was ahead when the cluster was made, and has been set right since.
	_, err = load(dir, now.Add(-23*time.Hour), Grace)
	check(t, err)
	wrong := now.Add(-25 * time.Hour)
	_, err = load(dir, wrong, forEver)
	wantError(t, err, ErrExpired, "this host's clock says "+wrong.UTC().Format(time.RFC3339)+"; set the clock")
	wantError(t, err, ErrExpired, "begins at ")
}

func TestLoadSettingsAsksForNoCertificate(t *testing.T) {
	dir := newDir(t)
	want := must[*Identity](t)(Load(dir)).Settings
	check(t, errors.Join(os.Remove(filepath.Join(dir, "node.crt")), os.Remove(filepath.Join(dir, "ca.crt"))))
	if got := must[Settings](t)(LoadSettings(dir)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	check(t, os.Chmod(dir, 0o755))
	_, err := LoadSettings(dir)
	wantError(t, err, ErrExposed, "chmod 0700")
	_, err = LoadSettings(tempDir(t))
	wantError(t, err, ErrNoState, "bootstrap")
}

// The node stays who it is; nobody of its old cluster is let in.
func TestSucceed(t *testing.T) {
	old := newSpec(t)
	old.Role = RoleWitness
	spec := must[Spec](t)(Succeed(old.Settings, time.Now()))
	dir := filepath.Join(tempDir(t), "data")
	check(t, Create(dir, spec))
	id := must[*Identity](t)(Load(dir))
	want := old.Settings
	want.ClusterID, want.Created = id.ClusterID, id.Created
	if id.Settings != want || id.ClusterID == old.ClusterID || id.Authority() == nil {
		t.Errorf("got %+v of %+v", id.Settings, old.Settings)
	}
	if string(spec.GossipKey) == string(old.GossipKey) || string(spec.CACert) == string(old.CACert) || string(spec.Key) == string(old.Key) {
		t.Error("a key of the old cluster goes on")
	}
}

// identity.json must be written like this until format 3, and format 1 stay readable: it had no
// lease port.
func TestIdentityFileGolden(t *testing.T) {
	const text = `{
  "format": 2,
  "cluster": "c-00000000000000aa",
  "node": "n-0000000000000001",
  "name": "node-1",
  "advertise": "192.0.2.1",
  "api_port": 7400,
  "raft_port": 7401,
  "gossip_port": 7402,
  "lease_port": 7403,
  "role": "witness",
  "profile": "wan",
  "lease": "1.5s",
  "created": "2030-01-02T03:04:05Z"
}
`
	want := settings()
	want.ClusterID, want.NodeID, want.Role = clusterA, nodeA, RoleWitness
	want.Profile, want.Lease, want.Created = ProfileWAN, 1500*ms, testExpiry
	if got := must[[]byte](t)(encodeSettings(want)); string(got) != text {
		t.Errorf("written: %s", got)
	}
	if got := must[Settings](t)(decodeSettings([]byte(text))); got != want {
		t.Errorf("read: %+v", got)
	}
	first := strings.Replace(strings.Replace(text, `"format": 2`, `"format": 1`, 1), "  \"lease_port\": 7403,\n", "", 1)
	if got := must[Settings](t)(decodeSettings([]byte(first))); got != want {
		t.Errorf("read of format 1: %+v", got)
	}
	taken := strings.Replace(first, `7401`, `7403`, 1)
	if got := must[Settings](t)(decodeSettings([]byte(taken))).Ports; got.Raft != 7403 || got.Lease != 7404 {
		t.Errorf("ports of a node that uses 7403 already: %+v", got)
	}
}
