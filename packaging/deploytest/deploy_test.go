// Package deploytest holds the files of docs/deploy to their schemas: those of Kubernetes' own types, of compose-go, and of
// the programs that read the others. It is a module of its own, because the product needs none of them. Run by
// `make deploy-test`.
package deploytest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

const deploy = "../../docs/deploy"

// TestKubernetes: each field is one of Kubernetes' own type, the selector selects its own pods, and the container has what the compose
// file gives it.
func TestKubernetes(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(deploy, "kubernetes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var set appsv1.DaemonSet
	if err := yaml.UnmarshalStrict(raw, &set); err != nil {
		t.Fatal(err)
	}
	if set.APIVersion != "apps/v1" || set.Kind != "DaemonSet" {
		t.Errorf("%s %s", set.APIVersion, set.Kind)
	}
	for key, value := range set.Spec.Selector.MatchLabels {
		if set.Spec.Template.Labels[key] != value {
			t.Errorf("the selector wants %s=%s, the pods have %v", key, value, set.Spec.Template.Labels)
		}
	}
	pod := set.Spec.Template.Spec
	if len(pod.Containers) != 1 || !pod.HostNetwork {
		t.Fatalf("%d containers, host network %t", len(pod.Containers), pod.HostNetwork)
	}
	c := pod.Containers[0]
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			t.Errorf("volume %s is mounted and not there", m.Name)
		}
	}
	var caps []string
	for _, cap := range c.SecurityContext.Capabilities.Add {
		caps = append(caps, string(cap))
	}
	file := compose(t)
	if want := file.caps; !slices.Equal(caps, want) {
		t.Errorf("capabilities %v, and %v in the compose file, which is run by a test", caps, want)
	}
	if got, want := c.Args, file.command; !slices.Equal(got, want) {
		t.Errorf("arguments %q, and %q in the compose file", got, want)
	}
}

// service is what the tests look at of the one in the compose file.
type service struct{ caps, command []string }

// compose reads the file as `docker compose` does, which checks it against the schema of the compose specification.
func compose(t *testing.T) service {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(deploy, "compose.yaml")}, cli.WithName("havip"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	s, ok := p.Services["havip-cluster"]
	if !ok || len(p.Services) != 1 {
		t.Fatalf("services %v", p.ServiceNames())
	}
	return service{s.CapAdd, s.Command}
}

func TestCompose(t *testing.T) {
	if s := compose(t); len(s.caps) == 0 || len(s.command) == 0 {
		t.Errorf("%+v", s)
	}
}

// TestCloudInit asks cloud-init itself.
func TestCloudInit(t *testing.T) {
	run(t, "cloud-init", "schema", "--config-file", filepath.Join(deploy, "cloud-init.yaml"))
}

// TestAnsible has ansible read the role in a play, which resolves its modules and their arguments' syntax.
func TestAnsible(t *testing.T) {
	roles, err := filepath.Abs(filepath.Join(deploy, "ansible"))
	if err != nil {
		t.Fatal(err)
	}
	play := filepath.Join(t.TempDir(), "site.yml")
	if err := os.WriteFile(play, []byte("- hosts: all\n  serial: 1\n  become: true\n  roles: [havip_cluster]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ANSIBLE_ROLES_PATH", roles)
	run(t, "ansible-playbook", "--syntax-check", "-i", "node-1,node-2,", play)
	run(t, "ansible-playbook", "--list-tasks", "-i", "node-1,node-2,", play)
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "ERROR") {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	t.Logf("%s", out)
}
