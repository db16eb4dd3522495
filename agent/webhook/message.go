package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"havip-cluster/fsm"
)

// Headers of a POST.
const (
	HeaderEvent     = "Havip-Event-Id"
	HeaderTimestamp = "Havip-Timestamp" // unix seconds, of this try
	HeaderSignature = "Havip-Signature" // "sha256=" and Sign of the timestamp and the body; without a secret absent
)

// Message is the body of a POST.
type Message struct {
	// ID names the event: the same one for each try, and after a change of leader.
	ID      string    `json:"id"`
	Cluster string    `json:"cluster"`
	Webhook string    `json:"webhook"`
	Index   uint64    `json:"index"`
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`
	HAVIP   string    `json:"havip,omitempty"`
	Node    string    `json:"node,omitempty"`
	Text    string    `json:"text"`

	Fields []fsm.FieldChange `json:"fields,omitempty"`
	// Lost is how many events this webhook was not told of, since it was made.
	Lost uint64 `json:"lost,omitempty"`
}

// Sign is HMAC-SHA256 (RFC 2104) with the secret over the timestamp, a full stop and the body, in hex.
func Sign(secret, timestamp string, body []byte) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(timestamp + "."))
	m.Write(body)
	return hex.EncodeToString(m.Sum(nil))
}

// waiting is an event that is to be sent.
type waiting struct {
	fsm.Event
	nth int // among the events of its index, from 1
}

// message is the body about an event.
func message(cluster string, h fsm.Webhook, e waiting, lost uint64) ([]byte, string, error) {
	id := strconv.FormatUint(e.Index, 10) + "-" + strconv.Itoa(e.nth)
	body, err := json.Marshal(Message{
		ID: id, Cluster: cluster, Webhook: h.Name, Index: e.Index, At: time.Unix(0, e.At).UTC(), Kind: e.Kind, HAVIP: e.HAVIP, Node: e.Node, Text: e.Text,
		Fields: e.Fields, Lost: lost,
	})
	if err != nil {
		return nil, "", fmt.Errorf("webhook: encode event %s: %w", id, err)
	}
	return body, id, nil
}
