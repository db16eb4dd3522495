package console

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"havip-cluster/api"
)

// What a cloud says beside the log and the leases. The answers are read here with fields of their own: a
// cluster may have no provider, or a program that asks none, and then there is no such route.

// cloudEvery is how often the page of the cloud asks for itself: what a cloud shows is in no log.
const cloudEvery = "10s"

// cloudRows is how many HAVIPs, and how many differences, a page shows.
const cloudRows = 200

// cloudWarning is a difference between log and cloud, with the command that mends it.
type cloudWarning struct {
	Code    string `json:"code"`
	HAVIP   string `json:"havip"`
	ID      string `json:"id"`
	Message string `json:"message"`
	Command string `json:"command"`
}

// threeWay is one HAVIP as log, lease and cloud have it.
type threeWay struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	IP      string `json:"ip"`
	Desired struct {
		ENI    *string `json:"eni"`
		Node   *string `json:"node"`
		Epoch  uint64  `json:"epoch"`
		EIP    *string `json:"eip"`
		Subnet string  `json:"subnet"`
	} `json:"desired"`
	Leased *struct {
		ENI     string `json:"eni"`
		Node    string `json:"node"`
		Epoch   uint64 `json:"epoch"`
		Serving bool   `json:"serving"`
		Cloud   string `json:"cloud_eni"`
	} `json:"leased"`
	Seen *struct {
		ID         string    `json:"id"`
		ENI        string    `json:"eni"`
		InstanceID string    `json:"instance"`
		Node       *string   `json:"node"`
		EIP        string    `json:"eip"`
		Subnet     string    `json:"subnet"`
		State      string    `json:"state"`
		At         time.Time `json:"at"`
	} `json:"observed"`
	Drift []cloudWarning `json:"drift"`
}

// cloudView is the cloud as the leader sees it.
type cloudView struct {
	Kind   string         `json:"kind"`
	Node   string         `json:"node"`
	PollMS int64          `json:"poll_ms"`
	SeenAt *time.Time     `json:"seen_at"`
	Error  string         `json:"error"`
	HAVIPs int            `json:"havips"`
	Drift  []cloudWarning `json:"drift"`
	ENIs   []struct {
		ENI   string `json:"eni"`
		Node  string `json:"node"`
		MAC   string `json:"mac"`
		Known bool   `json:"known"`
		Cloud *struct {
			ID string `json:"id"`
		} `json:"cloud"`
	} `json:"enis"`
}

// cloudData is the page of a cloud, or of one HAVIP there.
type cloudData struct {
	None     string // why there is nothing to show; "" = there is
	Provider cloudView
	All      []threeWay
	More     int // HAVIPs that are not in All
	Quiet    int // differences that are not in Provider.Drift
	One      *threeWay
	Name     string
}

// noCloud says why there is no cloud to ask; "" for any other fault.
func noCloud(err error) string {
	p, ok := errors.AsType[*api.Problem](err)
	switch {
	case ok && p.Status == http.StatusConflict:
		return p.Detail
	case ok && p.Code == api.CodeAction:
		return "This version of the agent asks no cloud."
	}
	return ""
}

// cloudPage compares log, lease and cloud for all HAVIPs. The leader answers: it is the one that looks.
func cloudPage(v *visit) (*page, error) {
	d := cloudData{}
	p := &page{Title: "Cloud", Tab: "cloud", Name: "cloud", Data: &d, Topics: []string{topicHAVIPs, topicEvents}, Every: cloudEvery}
	err := v.get(v.ctx, "/v1/provider", nil, &d.Provider)
	if err == nil {
		err = v.get(v.ctx, "/v1/observed", url.Values{"limit": {strconv.Itoa(cloudRows)}}, &d.All)
	}
	var cluster api.Cluster
	if err == nil {
		err = v.get(v.ctx, "/v1/cluster", nil, &cluster)
	}
	if err == nil {
		d.More = max(0, cluster.HAVIPs-len(d.All))
		d.Quiet = max(0, len(d.Provider.Drift)-cloudRows)
		d.Provider.Drift = d.Provider.Drift[:min(len(d.Provider.Drift), cloudRows)]
		return p, nil
	}
	if d.None = noCloud(err); d.None != "" {
		return p, nil
	}
	return nil, err
}

// havipCloudPage is what the cloud says of one HAVIP. The page of the HAVIP shows it beside the rest, and asks for
// it by itself: a cloud that is slow holds nothing up.
func havipCloudPage(v *visit) (*page, error) {
	d := cloudData{One: &threeWay{}}
	one, err := v.one()
	if err != nil {
		return nil, err
	}
	d.Name = one.Name
	if err := v.get(v.ctx, pathTo("v1", "observed", one.ID), nil, d.One); err != nil {
		if d.None = noCloud(err); d.None == "" {
			return nil, err
		}
		d.One = nil
	}
	return &page{Title: one.Name + " in the cloud", Tab: "havips", Name: "havip-cloud", Data: &d, Form: true}, nil
}
