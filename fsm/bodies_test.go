package fsm

import "testing"

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

// everyKind is written out, so that a kind cannot vanish unnoticed: old logs hold it.
var everyKind = []string{
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
