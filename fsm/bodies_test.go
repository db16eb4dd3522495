package fsm

import (
	"slices"
	"testing"
)

// everyBody gives an empty body of each kind that there is.
func everyBody() []Body {
	var out []Body
	for _, kind := range everyKind {
		b, ok := newBody(kind)
		if !ok {
			panic("no command of kind " + kind)
		}
		out = append(out, b)
	}
	return out
}

var everyKind = append(slices.Clone(kindsOfLevel1), slices.Concat(kindsOfLevel2, kindsOfLevel3, kindsOfLevel4, kindsOfKeys, kindsOfRights, kindsOfWebhooks, kindsOfChecks, kindsOfAddresses)...)

var kindsOfLevel2 = []string{
	"change-range", "ban-havip", "unban-havip", "bind-eip", "unbind-eip", "record-failure", "reset-failures", "report-health",
	"drain-node", "end-drain", "activate-node", "create-group", "delete-group", "set-cluster", "apply-config", "rollback",
}

var kindsOfLevel3 = []string{"report-guarded", "confirm", "close-sessions", "record-failovers"}

var kindsOfLevel4 = []string{"register-key", "report-behind", "rest-vote"}

// kindsOfKeys are those of level 4 about certificates and keys.
var kindsOfKeys = []string{"report-keys", "rotate-keys", "offer-key", "advance-keys"}

// kindsOfRights are of level 4.
var kindsOfRights = []string{"create-credential", "revoke-credential"}

// kindsOfAddresses are of level 4.
var kindsOfAddresses = []string{"set-address"}

// kindsOfWebhooks are of level 4.
var kindsOfWebhooks = []string{"create-webhook", "delete-webhook", "advance-webhook"}

// kindsOfLevel1 is written out, so that a kind cannot vanish unnoticed: old logs hold it.
var kindsOfLevel1 = []string{
	"init-cluster", "create-token", "add-node", "update-node", "remove-node", "report-enis", "set-eni",
	"create-subnet", "delete-subnet", "create-havip", "update-havip", "delete-havip",
	"open-session", "drain-session", "close-session", "place", "release",
	"report-event", "set-lease", "settle-lease", "record-failover",
}

func TestEveryKindIsKnown(t *testing.T) {
	for i, b := range everyBody() {
		if b.kind() != everyKind[i] {
			t.Errorf("kind %s decodes into %T", everyKind[i], b)
		}
	}
}
