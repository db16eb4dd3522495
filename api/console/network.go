package console

import (
	"net/http"
	"strings"

	"havip-cluster/api"
)

func (c *Console) networkPages() {
	c.page("/subnets", subnetsPage)
	c.change("/subnets", createSubnet)
	c.change("/subnets/{name}/delete", func(v *visit) (outcome, error) {
		return v.remove("subnets", "/subnets")
	})
}

// remove deletes what a path names by its name.
func (v *visit) remove(kind, to string) (outcome, error) {
	err := v.send(v.ctx, http.MethodDelete, pathTo("v1", kind, v.r.PathValue("name")), nil, nil, nil, v.key)
	return outcome{To: to, Did: "deleted"}, err
}

func subnetsPage(v *visit) (*page, error) {
	var d []api.Subnet
	if err := v.get(v.ctx, "/v1/subnets", nil, &d); err != nil {
		return nil, err
	}
	return &page{Title: "Subnets", Tab: "subnets", Name: "subnets", Data: d, Topics: []string{topicConfig}}, nil
}

func createSubnet(v *visit) (outcome, error) {
	f := v.r.PostForm
	spec := api.SubnetSpec{Name: f.Get("name"), CIDR: strings.TrimSpace(f.Get("cidr")), VPC: f.Get("vpc"), Gateway: strings.TrimSpace(f.Get("gateway")), Reserved: words(f.Get("reserved"))}
	err := v.send(v.ctx, http.MethodPost, "/v1/subnets", nil, spec, nil, v.key)
	return outcome{To: "/subnets", Did: "created", Page: v.again(err, subnetsPage)}, err
}

// words are what stands between spaces and commas.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })
}
