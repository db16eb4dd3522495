package api

import "net/http"

// RoundTripper carries requests to the node that the client speaks with, and shows the client's
// credential; of a request's URL only path and query count. It repeats nothing and has no time limit: that is the
// caller's affair.
func (c *Client) RoundTripper() http.RoundTripper { return via{c} }

type via struct{ client *Client }

// RoundTrip implements http.RoundTripper.
func (v via) RoundTrip(r *http.Request) (*http.Response, error) {
	target := v.client.base + r.URL.RequestURI()
	out, err := http.NewRequestWithContext(r.Context(), r.Method, target, r.Body)
	if err != nil {
		return nil, err
	}
	out.Header, out.ContentLength, out.GetBody = r.Header.Clone(), r.ContentLength, r.GetBody
	if v.client.Token != "" {
		out.Header.Set("Authorization", "Bearer "+v.client.Token)
	}
	return v.client.http.Transport.RoundTrip(out)
}
