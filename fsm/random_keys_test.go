package fsm

import "slices"

// keyDraws draws the commands about certificates and keys.
func (c chooser) keyDraws(node string) map[string]func() Body {
	what := func() string { return pick(c, "what", []string{KeyOfGossip, KeyOfCA, KeyOfNode, "x"}) }
	return map[string]func() Body{
		"report-keys": func() Body {
			k := c.s.Cluster.Keys
			r := keyReport(c.number("certificate", 1, 9), caNumber(c.number("issuer", 1, 3)), caNumber(c.number("trusts", 1, 3)))
			if c.flag() { // it does what the present phases ask
				r.Issuer, r.Trusts, r.Gossip = k.Issuer, nil, []string{k.GossipUse}
				for _, ca := range k.CAs {
					r.Trusts = append(r.Trusts, ca.ID)
				}
				slices.Sort(r.Trusts)
				for _, id := range k.Gossip {
					if id != k.GossipUse {
						r.Gossip = append(r.Gossip, id)
					}
				}
			}
			if c.flag() {
				r.Holds = []string{caNumber(c.number("holds", 1, 3)).ID}
			}
			return ReportKeys{node, r}
		},
		"rotate-keys": func() Body { return RotateKeys{What: what(), Node: pick(c, "of", []string{"", "", node})} },
		"offer-key": func() Body {
			if c.flag() {
				ca := caNumber(c.number("CA", 1, 3))
				return OfferKey{What: KeyOfCA, Node: node, ID: ca.ID, CA: ca}
			}
			return OfferKey{What: what(), Node: node, ID: keyID("gossip", c.number("gossip", 1, 5))}
		},
		"advance-keys": func() Body {
			w := what()
			r := c.s.Cluster.Keys.Rotation(w)
			return AdvanceKeys{What: w, Phase: r.Phase, New: r.New, Without: []string{node}, Force: c.chance("force", 2)}
		},
	}
}

// checkRotations is checkInvariants for certificates and keys.
func checkRotations(s *State, bad complain) {
	k := s.Cluster.Keys
	var cas []string
	for _, ca := range k.CAs {
		cas = append(cas, ca.ID)
	}
	for _, x := range []struct {
		what, use string
		known     []string
		r         Rotation
		most      int
	}{{KeyOfCA, k.Issuer, cas, k.CA, MaxCAs}, {KeyOfGossip, k.GossipUse, k.Gossip, k.GossipTurn, 2}} {
		if (x.use != "") != (len(x.known) > 0) || x.use != "" && !slices.Contains(x.known, x.use) || len(x.known) > x.most {
			bad("the key of %s is %q, known are %v", x.what, x.use, x.known)
		}
		running := x.r.Phase == PhaseSpread || x.r.Phase == PhaseUse
		if running != (x.r.New != "") || running && !slices.Contains(x.known, x.r.New) || x.r.Phase == PhaseUse && x.use != x.r.New {
			bad("rotation of %s: %+v with %q in use of %v", x.what, x.r, x.use, x.known)
		}
	}
}
