package fsm

import "havip-cluster/internal/limits"

// checkProbe is about the port that a HAVIP's probe has in the whole cluster. No two HAVIPs have one
// port, because a load balancer asks nodes, and could not tell whose answer it gets. And a port
// is given up only while nobody may answer there: a setting has no epoch, so an owner that lags behind
// in the log would go on to answer at a port that the next HAVIP has elsewhere by then.
func (s *State) checkProbe(v *HAVIP, after Spec) *Refusal {
	if after.Probe == v.Probe {
		return nil
	}
	was, is := v.Probing(), after.Probing()
	if was.Port != 0 && was.Port != is.Port && (v.Owner != nil || len(v.Draining) > 0) {
		return Refuse(CodeInUse, "the probe of HAVIP %s leaves port %d only while nobody answers there: `havip disable %s`, change it, `havip enable %s`", v.Name, was.Port, v.ID, v.ID)
	}
	if is.Port == 0 {
		return nil
	}
	probes := 0
	for _, other := range s.HAVIPList() {
		switch port := other.Probing().Port; {
		case other.ID == v.ID || port == 0:
		case port == is.Port:
			return Refuse(CodeInUse, "port %d is that of the probe of HAVIP %s; take another one. HAVIPs of a group that keeps them together need one probe: name it for the others in the load balancer",
				is.Port, other.Name)
		default:
			probes++
		}
	}
	if probes >= limits.Probes {
		return Refuse(CodeLimit, "%d HAVIPs have a probe, which is the most", limits.Probes)
	}
	return nil
}
