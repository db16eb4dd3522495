package console

import (
	"net/url"

	"havip-cluster/api"
)

// eventsMax is how many events a page shows.
const eventsMax = 200

// eventsData is the newest events of a filter.
type eventsData struct {
	HAVIP, Node, Kind string
	List              []api.Event
	Total             int
}

func eventsPage(v *visit) (*page, error) {
	in := v.r.URL.Query()
	d := eventsData{HAVIP: in.Get("havip"), Node: in.Get("node"), Kind: in.Get("kind")}
	q := url.Values{}
	for k, text := range map[string]string{"havip": d.HAVIP, "node": d.Node, "kind": d.Kind} {
		if text != "" {
			q.Set(k, text)
		}
	}
	if err := v.get(v.ctx, "/v1/events", q, &d.List); err != nil {
		return nil, err
	}
	d.Total = len(d.List)
	d.List = newest(d.List, eventsMax)
	return &page{Title: "Events", Tab: "events", Name: "events", Data: d, Topics: []string{topicEvents}}, nil
}
