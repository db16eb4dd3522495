package fsm

import "encoding/json"

// OwnCommand decodes a command that a node sends about its own life, and refuses whatever
// another node's certificate would be needed for. The caller has authenticated the node.
func OwnCommand(s *State, node, kind string, raw json.RawMessage) (Body, *Refusal) {
	c := Command{Kind: kind, Body: raw}
	if err := c.open(); err != nil {
		return nil, Refuse(CodeMalformed, "%v", err)
	}
	owner := ""
	switch b := c.body.(type) {
	case *OpenSession:
		owner = b.Node
	case *DrainSession:
		owner = b.Node
	case *ReportGuarded:
		owner = b.Node
	case *ReportChecks:
		owner = b.Node
	case *ReportENIs:
		owner = b.Node
	case *RegisterKey:
		owner = b.Node
	case *ReportEvent:
		owner = b.Node
	case *ReportHealth:
		owner = b.Node
	case *ReportKeys:
		owner = b.Node
	case *OfferKey:
		owner = b.Node
	case *RecordFailure:
		owner = b.Node
	case *RestVote:
		owner = b.Node
	case *UpdateNode:
		// A node says which program it runs, and nothing else of itself.
		if *b == (UpdateNode{ID: b.ID, Version: b.Version}) && b.Version != nil {
			owner = b.ID
		}
	case *CloseSession:
		// Only the holder's own word closes without a majority of endorsements.
		if b.Released && len(b.Place) == 0 {
			owner = s.Sessions[b.Session].Node
		}
		if _, open := s.Sessions[b.Session]; !open {
			return nil, Refuse(CodeStale, "session %d is not open", b.Session)
		}
	}
	if owner != node || owner == "" {
		return nil, Refuse(CodeUnsupported, "node %s may not send this %s", s.NodeName(node), kind)
	}
	return c.body, nil
}
