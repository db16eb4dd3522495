package agent

import (
	"time"

	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/membership"
	"havip-cluster/membership/identity"
)

// keyGiver is what this node gives to other members about keys.
type keyGiver struct{ id *identity.Identity }

var _ api.KeyGiver = keyGiver{}

func (k keyGiver) SignRenewal(st *fsm.State, caller, claimed string, csr []byte) ([]byte, error) {
	return membership.SignRenewal(k.id, st, caller, claimed, csr, time.Now())
}

func (k keyGiver) GossipKey(st *fsm.State, caller, id string) ([]byte, error) {
	return membership.GiveGossipKey(k.id, st, caller, id)
}

func (k keyGiver) CAKey(st *fsm.State, caller, id string) ([]byte, error) {
	return membership.GiveCAKey(k.id, st, caller, id)
}
