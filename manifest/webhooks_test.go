package manifest_test

import (
	"reflect"
	"strings"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

const hookSecret = "0123456789abcdef-key"

const webhooksFile = `version: 1
webhooks:
  - {name: ops, url: "https://hooks.example/x", events: [placed, unserved, conflict]}
  - {name: all, url: "https://hooks.example/all", secret: ` + hookSecret + `}
`

// The example of the interface is read and becomes a configuration; what is printed of a secret is that
// there is one.
func TestWebhooksOfAFile(t *testing.T) {
	m, faults := manifest.Verify([]byte(webhooksFile))
	if len(faults) != 0 {
		t.Fatal(faults)
	}
	cfg := m.ToConfig()
	if want := []fsm.WebhookSpec{
		{Name: "ops", URL: "https://hooks.example/x", Events: []string{"placed", "unserved", "conflict"}},
		{Name: "all", URL: "https://hooks.example/all", Secret: hookSecret},
	}; !reflect.DeepEqual(cfg.Webhooks, want) {
		t.Errorf("%+v", cfg.Webhooks)
	}
	if manifest.New().ToConfig().Webhooks != nil {
		t.Error("a file without webhooks says something of them")
	}
	if again, faults := manifest.Verify(m.YAML()); len(faults) != 0 || !reflect.DeepEqual(again, m) {
		t.Errorf("%v\n%s", faults, m.YAML())
	}
	if diff := manifest.Diff(manifest.New(), m).String(); strings.Contains(diff, hookSecret) || !strings.Contains(diff, "webhook all") {
		t.Errorf("the difference:\n%s", diff)
	}
}

// An export has no secret, says which webhooks have one, and applied again it changes nothing.
func TestExportHasNoSecret(t *testing.T) {
	s := fsm.New()
	s.Cluster = fsm.Cluster{ID: "c-1", Level: 4}
	s.Webhooks["ops"] = fsm.Webhook{Name: "ops", URL: "https://h.example/", Secret: hookSecret, SecretSet: 1e18}
	s.Webhooks["open"] = fsm.Webhook{Name: "open", URL: "https://h.example/"}
	m := manifest.FromState(s, 0)
	for _, raw := range [][]byte{m.YAML(), m.JSON()} {
		if strings.Contains(string(raw), hookSecret) || !strings.Contains(string(raw), "2001-09-09T01:46:40Z") {
			t.Errorf("%s", raw)
		}
		read, faults := manifest.Verify(raw)
		if len(faults) != 0 {
			t.Fatal(faults)
		}
		if cfg := read.ToConfig(); *cfg.Webhooks[0].Signed || !*cfg.Webhooks[1].Signed || cfg.Webhooks[1].Secret != "" {
			t.Errorf("%+v", cfg.Webhooks)
		}
	}
	s.Cluster.Level = 3
	if m := manifest.FromState(s, 0); m.Webhooks != nil {
		t.Errorf("webhooks below their level: %+v", m.Webhooks)
	}
}

func TestWebhooksThatAreWrong(t *testing.T) {
	for given, says := range map[string]string{
		`{name: ops, url: "https://h.example/"}`:                                          "here twice",
		`{name: x, url: "ftp://h.example/"}`:                                              "https://hooks.example/x",
		`{name: X!, url: "https://h.example/"}`:                                           "cannot name a webhook",
		`{name: x, url: "https://h.example/", events: [Placed]}`:                          "no kind of event",
		`{name: x, url: "https://h.example/", secret: tooshort}`:                          "16 to 256",
		`{name: x, url: "https://h.example/", secret: 1234567890123456}`:                  "text is wanted here",
		`{name: x, url: "https://h.example/", secret: ` + hookSecret + `, signed: false}`: "leave one of the two out",
		`{name: x, url: "https://h.example/", secret_set: yesterday}`:                     "not a time",
		`{name: x, url: "https://h.example/", kinds: [placed]}`:                           "kinds",
		`{name: x, url: "https://h.example/", signed: perhaps}`:                           "true or false",
	} {
		_, faults := manifest.Verify([]byte(webhooksFile + "  - " + given + "\n"))
		if len(faults) == 0 || !strings.Contains(faults.Error(), says) {
			t.Errorf("%s: %v, want %q", given, faults, says)
		}
		for _, secret := range []string{"tooshort", "1234567890123456", hookSecret} {
			if strings.Contains(faults.Error(), secret) {
				t.Errorf("%s: the secret is shown: %v", given, faults)
			}
		}
	}
}

// A range of nodes may be called so; what is written says cvm, as the cloud does.
func TestRangeOfTypeNode(t *testing.T) {
	m, faults := manifest.Verify([]byte("version: 1\nhavips:\n  - {name: web, ip: 10.77.0.100, range: {type: node, members: [n1, n2]}}\n"))
	if len(faults) != 0 || m.HAVIPs[0].Range.Type != "cvm" || m.ToConfig().HAVIPs[0].Range.Type != fsm.RangeCVM || strings.Contains(string(m.YAML()), "type: node") {
		t.Errorf("%v\n%s", faults, m.YAML())
	}
}
