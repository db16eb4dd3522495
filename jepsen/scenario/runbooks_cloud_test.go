package scenario

import (
	"havip-cluster/jepsen/fakecloud"
)

// made has the HAVIP in the cloud too, with a range.
func (w *watched) made() {
	w.t.Helper()
	w.CLI(1, "havip", "update", "web", "--range", "cvm:node-1,node-2,node-3")
	w.Eventually("the cloud's ids in eni list", func() bool {
		out := w.CLI(1, "eni", "list")
		return contains(out, "eni-lab1") && contains(out, "eni-lab2") && contains(out, "eni-lab3")
	})
	w.CLI(1, "provider", "sync", "--to-cloud")
	w.Place(w.other(w.Owner()))
	w.cloud.follows(1, w.Owner())
}

// cloudDrift: somebody takes an instance out of the range in the cloud, then adds a stranger's.
func (w *watched) cloudDrift() {
	w.t.Helper()
	w.cloud.t = w.t
	w.made()
	w.names = map[string]string{"NAME": "web"}
	edit := func(change func(h *fakecloud.HAVIP)) {
		w.must(w.cloud.cloud.Edit(w.HAVIP.String(), func(h fakecloud.HAVIP) *fakecloud.HAVIP { change(&h); return &h }))
	}
	edit(func(h *fakecloud.HAVIP) { h.HaVipAssociationSet = h.HaVipAssociationSet[:1] })
	w.raised()
	w.types(1, "havip-cluster provider show")
	w.types(1, "havip-cluster havip observed")
	w.types(1, "havip-cluster events --kind drift --since 1h")
	w.types(1, "havip-cluster status")
	w.types(1, "havip-cluster provider sync --to-cloud --dry-run")
	w.types(1, "havip-cluster provider sync --to-cloud")
	w.ended()
	w.types(1, "havip-cluster provider show", "Log and cloud agree")
	w.sees(1, "havip-cluster events --kind drift --since 1h", "ends")

	stranger := fakecloud.Association{InstanceId: "ins-stranger", HaVipId: w.cloud.cloud.HAVIPs()[0].HaVipId, InstanceType: "CVM"}
	edit(func(h *fakecloud.HAVIP) { h.HaVipAssociationSet = append(h.HaVipAssociationSet, stranger) })
	w.raised()
	w.types(1, "havip-cluster provider sync --to-cloud --prune")
	w.ended()

	edit(func(h *fakecloud.HAVIP) { h.HaVipAssociationSet = h.HaVipAssociationSet[:2] })
	w.raised()
	w.types(1, "havip-cluster provider sync --from-cloud")
	w.ended()
	w.names["NODE"] = w.Cluster.NodeName(w.other(w.Owner()))
	w.types(1, "havip-cluster havip move NAME --to NODE")
	w.types(1, "havip-cluster events --kind drift --since 1h")
}

// cloudSilent: the cloud's API is down.
func (w *watched) cloudSilent() {
	w.t.Helper()
	w.cloud.cloud.SetFault(fakecloud.Fault{Down: true})
	w.raised()
	w.prints(1, "havip-cluster provider show")
	w.prints(1, "havip-cluster provider test", "the cloud does not answer")
	w.types(1, "havip-cluster events --kind drift --since 1h")
	w.cloud.cloud.SetFault(fakecloud.Fault{})
	w.ended()
	w.types(1, "havip-cluster provider show", "SEEN")
	w.sees(1, "havip-cluster events --kind drift --since 1h", "the cloud answers again")
}

// cloudCircuitOpen: the same, until the calls are held back.
func (w *watched) cloudCircuitOpen() {
	w.t.Helper()
	w.cloud.cloud.SetFault(fakecloud.Fault{Down: true})
	w.raised()
	w.prints(1, "havip-cluster provider test", "the cloud does not answer")
	w.prints(1, "havip-cluster provider show")
	w.types(1, "havip-cluster events --kind drift --since 1h")
	w.cloud.cloud.SetFault(fakecloud.Fault{})
	w.ended()
	w.types(1, "havip-cluster provider test", "ENDPOINT")
}
