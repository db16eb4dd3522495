package fsm

// The words of a timeline. They are kept in the log and printed as they are.

// Why an owner changed: Failover.Kind.
const (
	ChangeFirst     = "first"     // it had none before
	ChangeCrash     = "crash"     // the lease of its node ran out at a majority of the voters
	ChangeGuard     = "guard"     // its agent died, and the guard gave everything back
	ChangeStop      = "stop"      // its agent ended in order
	ChangeLink      = "link"      // its ENI went down, was taken away or has a fault
	ChangeCheck     = "check"     // its node is not fit for it
	ChangeFault     = "fault"     // it could not be served there, or not be repaired
	ChangeDrain     = "drain"     // its node is drained
	ChangeStandby   = "standby"   // its node is in standby, or being removed
	ChangeMove      = "move"      // an operator moved it
	ChangeFailback  = "failback"  // a better place is there again
	ChangeRebalance = "rebalance" // for an even spread
	ChangeRule      = "rule"      // a range, ban, group or limit changed
	ChangeReturn    = "return"    // it was without an owner for a while
)

// The steps of a timeline, in the order in which they come: FailoverStep.Step.
const (
	StepHeard     = "heard"     // the last renewal that the leader heard
	StepDeadline  = "deadline"  // a voter's promise ran out
	StepNoticed   = "noticed"   // the leader knew
	StepEndorsed  = "endorsed"  // a majority endorsed the end
	StepCommitted = "committed" // the new place is in the log
	StepApplied   = "applied"   // the new owner has read it there
	StepReleased  = "released"  // the old owner does not answer any more
	StepAddress   = "address"   // the address is on the interface
	StepFence     = "fence"     // the fence lets its frames pass
	StepAnnounced = "announced" // the neighbours were told
	StepClaimed   = "claimed"   // the cloud sends the address there, where a call moves it
	StepConfirmed = "confirmed" // the log says that it is served
	StepAnswered  = "answered"  // the fence let the first frame for it in
	StepDark      = "dark"      // nobody could own it
	StepOvertaken = "overtaken" // the next change came before it was served
	StepAdopted   = "adopted"   // the leader changed, and what an earlier one knew is lost
	StepSilent    = "silent"    // the new owner has not said anything in time
)

// Bounds of a Failover.
const (
	MaxFailoverClocks = 4
	MaxStepName       = 32 // bytes
	MaxNameBytes      = 4 * MaxNameRunes
)
