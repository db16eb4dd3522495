package console

import (
	"slices"
	"strings"
	"time"

	"havip-cluster/api"
)

func (c *Console) accessPages() {
	c.page("/tokens", tokensPage)
	c.change("/tokens", createToken)
	c.change("/tokens/{name}/revoke", func(v *visit) (outcome, error) {
		out, err := v.remove("access-tokens", "/tokens")
		out.Did = "revoked"
		return out, err
	})
	c.page("/keys", keysPage)
	c.page("/keys/rotate", keysSurePage)
	c.change("/keys/rotate", rotateKeys)
	c.page("/snapshots", snapshotsPage)
}

func tokensPage(v *visit) (*page, error) {
	var d []api.AccessToken
	if err := v.get(v.ctx, "/v1/access-tokens", nil, &d); err != nil {
		return nil, err
	}
	return &page{Title: "Tokens", Tab: "tokens", Name: "tokens", Data: d, Topics: []string{topicConfig}}, nil
}

// createToken shows the secret in the answer to the form, once: it is in no address and no history.
func createToken(v *visit) (outcome, error) {
	f := v.r.PostForm
	spec := api.AccessTokenSpec{Name: f.Get("name"), Role: f.Get("role"), Group: strings.TrimSpace(f.Get("group"))}
	if text := strings.TrimSpace(f.Get("ttl")); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Minute {
			err = problemf(400, "the life %q is not a duration of a minute or more, such as 720h", clip(text))
			return outcome{To: "/tokens", Page: v.again(err, tokensPage)}, err
		}
		spec.TTLSeconds = int64(d / time.Second)
	}
	var made api.AccessToken
	if err := v.post(v.ctx, "/v1/access-tokens", spec, &made, ""); err != nil {
		return outcome{To: "/tokens", Page: v.again(err, tokensPage)}, err
	}
	return outcome{Page: &page{Title: "Token " + made.Name, Tab: "tokens", Name: "token-made", Data: made, Form: true}}, nil
}

func keysPage(v *visit) (*page, error) {
	var d []api.KeyView
	if err := v.get(v.ctx, "/v1/keys", nil, &d); err != nil {
		return nil, err
	}
	return &page{Title: "Keys and certificates", Tab: "keys", Name: "keys", Data: d, Topics: []string{topicConfig}}, nil
}

// keyKinds are what can be replaced, with what that means.
var keyKinds = map[string]string{
	"gossip": "The key of gossip is replaced on the running cluster. Nothing stops.",
	"node":   "All nodes get new certificates with new keys. Nothing stops.",
	"ca":     "The CA is replaced in phases, each of which waits for all nodes. Nothing stops; clients with a copy of ca.crt need the new one.",
}

// sureData is a replacement that somebody asks for.
type sureData struct{ What, Means string }

func keysSurePage(v *visit) (*page, error) {
	what := v.r.URL.Query().Get("what")
	means, ok := keyKinds[what]
	if !ok {
		return nil, problemf(400, "%q is no key that can be replaced: gossip, node or ca", clip(what))
	}
	return &page{Title: "Replace: " + what, Tab: "keys", Name: "keys-sure", Data: sureData{what, means}, Form: true}, nil
}

func rotateKeys(v *visit) (outcome, error) {
	what := v.r.PostForm.Get("what")
	if _, ok := keyKinds[what]; !ok || v.r.PostForm.Get("sure") != "yes" {
		return outcome{To: "/keys"}, problemf(400, "Say that you are sure: tick the box.")
	}
	return outcome{To: "/keys", Did: "rotating"}, v.post(v.ctx, "/v1/keys/rotate", api.KeyRotation{What: what}, nil, v.key)
}

func snapshotsPage(v *visit) (*page, error) {
	var d []api.SavedSnapshot
	if err := v.get(v.ctx, "/v1/snapshots", nil, &d); err != nil {
		return nil, err
	}
	return &page{Title: "Snapshots", Tab: "snapshots", Name: "snapshots", Data: d}, nil
}

// auditMax is how many entries of the record a page shows.
const auditMax = 300

func auditPage(v *visit) (*page, error) {
	var d []api.AuditEntry
	if err := v.get(v.ctx, "/v1/audit", nil, &d); err != nil {
		return nil, err
	}
	d = d[max(0, len(d)-auditMax):]
	slices.Reverse(d)
	return &page{Title: "Audit", Tab: "audit", Name: "audit", Data: d, Topics: everyTopic}, nil
}
