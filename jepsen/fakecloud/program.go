package fakecloud

import (
	"encoding/json"
	"net/http"
	"net/netip"
)

// Program serves everything at one address, for programs that are not Go: the API at POST /, the metadata service of an
// instance at /as/INSTANCE/latest/meta-data/, and, for the one who plays the people and the fabric:
//
//	PUT  /fault      a Fault
//	POST /announce   {"mac": "...", "ip": "..."}; answers {"taken", "why"}
//	GET  /havips     those there are
//	POST /edit       {"ip": "...", "havip": a HAVIP or null to delete it}
//	POST /enis       an ENI to attach
//	GET  /calls      the requests so far
//
// It is for loopback: nobody is asked who he is, but at the API.
func (c *Cloud) Program() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /{$}", c.Handler(""))
	mux.HandleFunc("/as/{instance}/", func(w http.ResponseWriter, r *http.Request) {
		instance := r.PathValue("instance")
		http.StripPrefix("/as/"+instance, c.Handler(instance)).ServeHTTP(w, r)
	})
	mux.HandleFunc("PUT /fault", told(func(f Fault) any { c.SetFault(f); return f }))
	mux.HandleFunc("POST /announce", told(func(a struct {
		MAC string     `json:"mac"`
		IP  netip.Addr `json:"ip"`
	}) any {
		taken, why := c.Announce(a.MAC, a.IP)
		return map[string]any{"taken": taken, "why": why}
	}))
	mux.HandleFunc("POST /edit", told(func(e struct {
		IP    string `json:"ip"`
		HAVIP *HAVIP `json:"havip"`
	}) any {
		if err := c.Edit(e.IP, func(HAVIP) *HAVIP { return e.HAVIP }); err != nil {
			return map[string]string{"error": err.Error()}
		}
		return c.HAVIPs()
	}))
	mux.HandleFunc("POST /enis", told(func(e ENI) any { c.AddENI(e); return e }))
	mux.HandleFunc("GET /havips", func(w http.ResponseWriter, _ *http.Request) { show(w, c.HAVIPs()) })
	mux.HandleFunc("GET /calls", func(w http.ResponseWriter, _ *http.Request) { show(w, c.Calls()) })
	return mux
}

func show(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the reader has gone if this fails
}

// told is a handler that reads JSON and shows what do makes of it.
func told[T any](do func(T) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var v T
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyMax))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		show(w, do(v))
	}
}
