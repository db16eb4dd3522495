package console

import (
	"encoding/json"
	"net/url"
	"strings"
)

// observed is what the cloud says of a HAVIP: nil where no provider is asked.
type observed struct {
	Says  string // one line
	Drift []string
}

// observed asks what the cloud says. A cluster without a provider, or of a version that asks none, has no such
// thing; then the page has no such column.
func (v *visit) observed(havip string) *observed {
	var raw json.RawMessage
	err := v.get(v.ctx, "/v1/observed", url.Values{"havip": {havip}}, &raw)
	if err != nil {
		return nil
	}
	return observedFrom(raw)
}

// observedFrom reads an answer. It holds one entry for a HAVIP.
func observedFrom(raw json.RawMessage) *observed {
	var list []struct {
		Observed *string  `json:"observed"`
		Drift    []string `json:"drift"`
	}
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return nil
	}
	out := &observed{Says: "nobody", Drift: list[0].Drift}
	if o := list[0].Observed; o != nil && strings.TrimSpace(*o) != "" {
		out.Says = *o
	}
	return out
}
