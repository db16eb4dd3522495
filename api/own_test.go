package api

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"havip-cluster/fsm"
)

// The key with which a node's words are believed is registered by that node's own certificate, over real TLS: not
// by another member, whatever it says of whom it speaks for, nor by an admin, nor by root.
func TestANodeRegistersItsOwnKeyAlone(t *testing.T) {
	w := newWorld(t)
	own, other := w.nodes[1].id.NodeID, w.nodes[0].id.NodeID
	tried := 0
	for _, a := range w.askers(t, 0) {
		for _, header := range [][]string{nil, {headerHops, "1", headerCaller, "node:" + own}, {headerHops, "1", headerCaller, "root"}} {
			for _, node := range []string{own, other} {
				tried++
				secret, err := ecdh.P256().GenerateKey(rand.Reader)
				must(t, err)
				key := fsm.NodeKey{Certificate: strings.Repeat("0a", 32), Public: base64.StdEncoding.EncodeToString(secret.PublicKey().Bytes())}
				text, err := json.Marshal(map[string]any{"kind": "register-key", "body": fsm.RegisterKey{Node: node, Key: key, LeasePort: 7403 + tried}})
				must(t, err)
				_, p := a.send(t, http.MethodPost, "/v1/internal/commands", string(text), header...)
				done := slices.Contains(w.log.state.Nodes[node].Keys, key)
				if want := a.caller.Node == own && a.node && node == own; done != want {
					t.Errorf("%s registers a key for %s with %q: done %t, want %t (%s)", a.name, w.log.state.NodeName(node), header, done, want, p.Detail)
				}
			}
		}
	}
	if tried < 50 {
		t.Errorf("only %d tries", tried)
	}
}
