package scenario

import "time"

// certificateExpiry: certificates of ten minutes, and a CA that is replaced.
func (w *watched) certificateExpiry() {
	w.t.Helper()
	w.names = map[string]string{"NODE": "node-3"}
	w.shortLived(3, 10*time.Minute)
	w.raised()
	w.types(1, "havip-cluster keys status", "UNTIL")
	w.types(1, "havip-cluster cluster show", "CA KEY", "CERTIFICATES made for")
	w.types(1, "havip-cluster cluster set certificate-life=2160h")
	w.types(1, "havip-cluster keys rotate node --node NODE")
	w.types(1, "havip-cluster keys rotate node")
	w.ended()
	w.types(1, "havip-cluster keys status", "ok")
	before := only(w.keyRows(1), "ca")
	w.types(1, "havip-cluster keys rotate ca")
	w.replaced(1, "ca", before)
	w.prometheusCA()
	w.reload()
	w.within(alertWait, "Prometheus trusts the new CA", func() bool { return w.answers() })
	w.types(1, "havip-cluster keys status")
}
