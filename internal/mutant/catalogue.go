package mutant

// Catcher is a test that notices a planted bug.
type Catcher struct {
	Package string // folder below the root
	Test    string // pattern of go test's -run; NAME stands for the bug's name
	// Kind says how the test shows it.
	Kind Kind
}

// Kind is how a test shows that it noticed.
type Kind string

const (
	// Fails: an ordinary test, which fails when the bug is planted from outside.
	Fails Kind = "fails"
	// Passes: a test that is made for planted bugs, and passes when it noticed this one.
	Passes Kind = "passes"
	// Sim: the simulation of whole clusters plays seeds until one shows the bug.
	Sim Kind = "sim"
)

// Bug is one planted bug.
type Bug struct {
	Name string
	Rule string // of the lease protocol, or the guard that is missing
	By   []Catcher
}

func lease(name, rule string, more ...Catcher) Bug {
	return Bug{"lease-" + name, rule, append([]Catcher{{"failover/lease", "^TestMutantSchedules$/^NAME$", Passes}}, more...)}
}

func leaseSearch() Catcher { return Catcher{"failover/lease", "^TestMutantSearch$/^NAME$", Passes} }

func handoff(name, rule string, more ...Catcher) Bug {
	return Bug{name, rule, append([]Catcher{{"failover", "^TestMutantHandoff$/^NAME$", Passes}}, more...)}
}

func inWorld(name, rule string, more ...Catcher) Bug {
	return Bug{name, rule, append([]Catcher{{"failover", "^TestMutantWorld$/^NAME$", Passes}}, more...)}
}

func inFSM(name, rule, test string, more ...Catcher) Bug {
	return Bug{"fsm-" + name, rule, append([]Catcher{{"fsm", test, Fails}}, more...)}
}

func inEdge(name, rule, test string, more ...Catcher) Bug {
	return Bug{"edge-" + name, rule, append([]Catcher{{"edge", test, Fails}}, more...)}
}

func inAPI(name, rule, test string) Bug {
	return Bug{"api-" + name, rule, []Catcher{{"api", test, Fails}}}
}

func inDoors(name, rule, test string) Bug {
	return Bug{"membership-door-" + name, rule, []Catcher{{"membership", test, Fails}}}
}

var (
	sim      = Catcher{"jepsen/sim", "^TestMutantSim$", Sim}
	directed = Catcher{"jepsen/sim", "^TestMutantDirected$", Sim}
)

// Catalogue lists every planted bug of the tree, and the tests that notice it. A test of
// this package holds it against the source.
var Catalogue = []Bug{
	inEdge("forget-blindly", "edge 1: forgotten only when a reading shows it nowhere", "^TestForgottenOnlyWhenItIsNowhere$", sim),
	inEdge("trust-open", "edge 2: what another life opened is shut first", "^TestLeftoversAreNotTrusted$"),
	inEdge("open-unread", "edge 2: opened only after a reading shows it", "^TestActivationAndRelease$", sim),
	inEdge("remove-open", "edge 2: shut before it is removed", "^TestActivationAndRelease$", sim),
	inEdge("on-before-off", "7, edge 2: off before on in one node", "^TestBetweenTwoDevices$"),
	inEdge("unread-is-absent", "edge 3: what cannot be read is not absent", "^TestWhatCannotBeReadIsNotAbsent$", directed),
	inEdge("no-back-off", "edge 3: what fails is tried again at a growing distance", "^TestFailuresBackOffAndAreSaidOnce$"),
	lease("first-promise", "1: opening is the first promise", leaseSearch()),
	{"keeper-answer-time", "1: the first deadline counts from the request", []Catcher{directed}},
	{"agent-unclean", "1: the own side is clean before a new session", []Catcher{sim}},
	inFSM("last-session", "1: the request names the last session", "^TestRefusals$"),
	inFSM("older-session", "1: opening closes the older session", "^TestRandomCommands$"),
	lease("send-time-deadline", "2: the deadline counts from the sending", leaseSearch()),
	lease("config-check", "2: the same voter set", leaseSearch()),
	lease("silence-ack", "2: silence before acknowledging", directed),
	lease("majority", "2, 5: a majority", leaseSearch()),
	lease("growth", "2: round and time of sending grow", leaseSearch(), directed),
	lease("boot", "2: a renewal names the voter's process", leaseSearch(), directed),
	inWorld("keeper-longer-pace", "2, 8: pace of the shorter lease"),
	lease("continuity", "3: a missed deadline stays missed"),
	lease("revocation", "4: endorsed once, refused for ever"),
	lease("silence-endorse", "4: silence before endorsing"),
	lease("caught-up", "4: silence until caught up"),
	lease("config-age", "4: age of the voter set", leaseSearch()),
	lease("config-index", "4, 5: a set that comes back is new"),
	{"membership-caught-up", "4: silence until caught up", []Catcher{{"membership", "^TestCaughtUp$", Fails}}},
	inWorld("closing-first-hint", "4, 5: who is asked when"),
	{"closing-on-hints", "4, 5: a hint proves nothing", []Catcher{directed}},
	lease("question-age", "5: age of the question"),
	lease("config-endorse", "5: the same voter set"),
	lease("config-leader", "5: the leader's current set"),
	inFSM("term", "5: decided and appended in one term", "^TestRefusedInAnotherTerm$"),
	inFSM("closed-claims", "5: a closed session has no claims", "^TestRandomCommands$"),
	handoff("handoff-early", "6: earlier epochs are released first", sim),
	handoff("handoff-last-only", "6: all earlier epochs"),
	handoff("handoff-forget-release", "6: not one that it released"),
	inFSM("draining", "6: the earlier owner drains", "^TestScenarios$"),
	inFSM("epoch", "6: each change of owner is an epoch", "^TestScenarios$"),
	inFSM("from-epoch", "6: guarded by the epoch it was computed from", "^TestRefusals$"),
	inFSM("open-session", "6: only open sessions own", "^TestRandomCommands$"),
	inFSM("eligible", "6: Apply checks the hard rules again", "^TestRefusals$"),
	handoff("handoff-reactivate", "7: never at or below a released epoch"),
	{"handoff-session-tie", "7: the release names the session", []Catcher{{"failover", "^TestAReleaseOfAnotherSession$", Fails}}},
	handoff("handoff-relabel-early", "7: a change of mind waits too"),
	handoff("handoff-never-activated", "7: \"I never will\""),
	handoff("handoff-recall-active", "7: what answers is not recalled"),
	{"handoff-recall-unknown", "7: a promise is never forgotten", []Catcher{{"failover", "^TestRecalled$", Fails}}},
	handoff("handoff-recall-forget", "7: \"I never will\", when asked"),
	handoff("shell-release-early", "7: released only when it is off"),
	handoff("shell-activate-over", "7: off before on in one node"),
	inWorld("agent-release-early", "7: released only when it is off", directed),
	inFSM("release-session", "7: the release names the session", "^TestScenarios$"),
	inFSM("delete-early", "7: deleted when its last claim is gone", "^TestScenarios$"),
	lease("length-known", "8: only lengths in force"),
	lease("length-lapse", "8: the longer length lapses"),
	inFSM("lease-max", "8: the longer length stays in force", "^TestTheLongerLeaseStays$"),
	inFSM("settle", "8: settled is the newest change", "^TestRefusals$"),
	{"controller-behind", "a node that does not apply is no owner", []Catcher{{"failover", "^TestANodeThatDoesNotApplyIsNoOwner$", Fails}, directed}},
	{"controller-settle-early", "8: the longer length has run out", []Catcher{directed}},
	inFSM("guard", "6: guarded by every node before it is placed", "^TestGuardBeforePlacement$"),
	inFSM("guard-open", "1: a session begins with a fence that knows every HAVIP", "^TestGuardBeforeASession$", directed),
	inFSM("served", "a new owner serves when it says so", "^TestServed$", sim),
	inFSM("remove-open", "9: removed only without a session", "^TestRandomCommands$"),
	{"membership-open-session", "9: removed only without a session", []Catcher{{"membership", "^TestNextChange$", Fails}}},
	lease("drift-margin", "notation: drift margin", leaseSearch(), directed),
	inFSM("key", "a repeated request is done once", "^TestCommandRoundTrip$"),
	{"membership-barrier", "a leader is up to date", []Catcher{{"membership", "^TestTheFounderInitialisesOnce$", Fails}}},
	inWorld("failover-sender", "words are bound to their sender", directed),
	inWorld("failover-gossip-keyed", "by gossip nobody speaks for a node that has a key", directed),
	{"words-window", "a sealed word counts once", []Catcher{{"membership/words", "^TestWindowAgainstASet$|^TestReplaysDoNotCount$", Fails}}},
	{"words-old-channel", "a sealed word counts in one life of its sender and receiver", []Catcher{{"membership/words", "^TestReplaysDoNotCount$", Fails}}},
	{"words-removed-key", "removal ends the right to speak at once", []Catcher{{"membership/words", "^TestARemovedNodeSaysNothing$", Fails}}},
	inDoors("suffrage", "only a voter speaks Raft", "^TestOnlyVotersSpeak$"),
	inDoors("member", "who is in no configuration does not speak Raft", "^TestOnlyVotersSpeak$"),
	inDoors("sender", "nobody speaks for another", "^TestOnlyVotersSpeak$"),
	inDoors("cut", "removal ends what is open", "^TestRemovalCutsWhatIsOpen$"),
	inDoors("dial", "the dialler names whom it wants", "^TestTheDiallerNamesWhomItWants$"),
	{"membership-checksum", "an entry that is not what was written is refused", []Catcher{{"membership", "^TestOpenRefusesADamagedEntry$|^TestADamagedEntryHalts$", Fails}}},
	inDoors("old-word", "a word for a voter is newer than what is known", "^TestVouching$"),
	inFSM("ca-dropped-early", "keys: the old CA is trusted until every node has a certificate of the new one", "^TestTheCAIsReplaced$"),
	inFSM("gossip-dropped-early", "keys: the old gossip key is known until every node uses the new one", "^TestTheGossipKeyIsReplaced$"),
	{"fsm-superseded", "keys: a certificate that ended is worth nothing beside a newer one", []Catcher{{"api", "^TestAnEndedCertificateOpensItsRenewal$", Fails}}},
	{"identity-grace-unbounded", "keys: the grace of a certificate that ended has an end", []Catcher{{"membership/identity", "^TestGraceHasAnEnd$", Fails}}},
	{"membership-renew-name", "keys: a certificate is renewed for its own node alone", []Catcher{{"membership", "^TestARenewalUnderAnotherName$", Fails}}},
	{"api-ended-certificate", "keys: a certificate that ended opens its renewal alone", []Catcher{{"api", "^TestAnEndedCertificateOpensItsRenewal$", Fails}}},
	inAPI("no-rule", "rights: every route has a rule", "^TestEveryRoute$"),
	inAPI("node-admin", "rights: a node's certificate is no admin", "^TestEveryRoute$|^TestForwardedLies$"),
	inAPI("expired-token", "rights: an expired token is none", "^TestEveryRoute$"),
	inFSM("node-admin", "rights: a node's own root cares for that node alone", "^TestPermits$"),
	inFSM("scope", "rights: a token of a group touches its HAVIPs alone", "^TestScope$"),
	inFSM("expired-token", "rights: the log's order decides when a token ended", "^TestTokensInTheLog$"),
	inFSM("key-principal", "rights: a key belongs to its principal", "^TestKeysOfPrincipals$"),
	{"membership-role", "rights: asked where it is proposed", []Catcher{{"membership", "^TestTheLeaderAsksForRights$", Fails}}},
	{"membership-ca-key", "rights: the CA's key goes to few", []Catcher{{"membership", "^TestRolesInRaft$", Fails}}},
	{"membership-take-back", "what failed is taken back", []Catcher{{"membership", "^TestALeadersStalledWriteFailsAndIsTakenBack$|^TestWhatCannotBeTakenBackIsTriedAgain$", Fails}}},
	{"fence-not-shut", "fence: shut means silent", []Catcher{{"netdev/fence", "^TestStates$|^TestFrameTable$", Fails}}},
	{"fence-link", "fence: outlives the process", []Catcher{{"netdev/fence", "^TestKilled$", Fails}}},
	{"fence-stale-timeout", "fence: the clock is read after the transaction", []Catcher{{"netdev/fence", "^TestStoppedInTransaction$", Fails}}},
}
