package console

import (
	"net/http"
	"strconv"
	"strings"

	"havip-cluster/api"
)

func (c *Console) policyPages() {
	c.page("/groups", groupsPage)
	c.change("/groups", createGroup)
	c.change("/groups/{name}/delete", func(v *visit) (outcome, error) { return v.remove("groups", "/groups") })
	c.page("/checks", checksPage)
	c.change("/checks", createCheck)
	c.change("/checks/{name}/delete", func(v *visit) (outcome, error) { return v.remove("checks", "/checks") })
	c.page("/webhooks", webhooksPage)
	c.change("/webhooks", createWebhook)
	c.change("/webhooks/{name}/delete", func(v *visit) (outcome, error) { return v.remove("webhooks", "/webhooks") })
	c.change("/webhooks/{name}/test", func(v *visit) (outcome, error) {
		err := v.post(v.ctx, pathTo("v1", "webhooks", v.r.PathValue("name"), "test"), nil, nil, v.key)
		return outcome{To: "/webhooks", Did: "tested"}, err
	})
}

func groupsPage(v *visit) (*page, error) {
	var d []api.Group
	if err := v.get(v.ctx, "/v1/groups", nil, &d); err != nil {
		return nil, err
	}
	return &page{Title: "Groups", Tab: "groups", Name: "groups", Data: d, Topics: []string{topicConfig, topicHAVIPs}}, nil
}

func createGroup(v *visit) (outcome, error) {
	f := v.r.PostForm
	hard := f.Get("soft") != "yes"
	spec := api.GroupSpec{Name: f.Get("name"), Kind: f.Get("kind"), Hard: &hard, HAVIPs: words(f.Get("havips"))}
	err := v.post(v.ctx, "/v1/groups", spec, nil, v.key)
	return outcome{To: "/groups", Did: "created", Page: v.again(err, groupsPage)}, err
}

// checksData is the checks and what they say of each node.
type checksData struct {
	Checks  []api.Check
	Results []api.CheckResult
}

func checksPage(v *visit) (*page, error) {
	d := checksData{}
	if err := v.get(v.ctx, "/v1/checks", nil, &d.Checks); err != nil {
		return nil, err
	}
	if err := v.get(v.ctx, "/v1/check-results", nil, &d.Results); err != nil {
		return nil, err
	}
	return &page{Title: "Checks", Tab: "checks", Name: "checks", Data: d, Topics: []string{topicConfig, topicNodes}}, nil
}

func createCheck(v *visit) (outcome, error) {
	f := v.r.PostForm
	spec := api.CheckSpec{
		Name: f.Get("name"), Type: f.Get("type"), Target: strings.TrimSpace(f.Get("target")), Interval: strings.TrimSpace(f.Get("interval")), Timeout: strings.TrimSpace(f.Get("timeout")),
		Effect: strings.TrimSpace(f.Get("effect")), Nodes: words(f.Get("nodes")), HAVIPs: words(f.Get("havips")),
	}
	for _, n := range []struct {
		name string
		to   *int
	}{{"rise", &spec.Rise}, {"fall", &spec.Fall}} {
		text := strings.TrimSpace(f.Get(n.name))
		if text == "" {
			continue
		}
		var err error
		if *n.to, err = strconv.Atoi(text); err != nil {
			err = problemf(http.StatusBadRequest, "%s %q is not a whole number", n.name, clip(text))
			return outcome{To: "/checks", Page: v.again(err, checksPage)}, err
		}
	}
	err := v.post(v.ctx, "/v1/checks", spec, nil, v.key)
	return outcome{To: "/checks", Did: "created", Page: v.again(err, checksPage)}, err
}

func webhooksPage(v *visit) (*page, error) {
	var d []api.Webhook
	if err := v.get(v.ctx, "/v1/webhooks", nil, &d); err != nil {
		return nil, err
	}
	return &page{Title: "Webhooks", Tab: "webhooks", Name: "webhooks", Data: d, Topics: []string{topicConfig}}, nil
}

func createWebhook(v *visit) (outcome, error) {
	f := v.r.PostForm
	spec := api.WebhookSpec{Name: f.Get("name"), URL: strings.TrimSpace(f.Get("url")), Events: words(f.Get("events")), Secret: f.Get("secret")}
	err := v.post(v.ctx, "/v1/webhooks", spec, nil, v.key)
	return outcome{To: "/webhooks", Did: "created", Page: v.again(err, webhooksPage)}, err
}
