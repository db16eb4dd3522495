package mutants

// catcher is a test that notices a planted bug.
type catcher struct {
	Package string // folder below the root
	Test    string // pattern of go test's -run; NAME stands for the bug's name
	How     kind
}

// kind is how a test shows that it noticed.
type kind string

const (
	// fails: an ordinary test, which fails when the bug is planted from outside.
	fails kind = "fails"
	// passes: a test that is made for planted bugs, and passes when it noticed this one.
	passes kind = "passes"
	// inSim: the simulation of whole clusters plays seeds until one shows the bug.
	inSim kind = "sim"
)

// bug is one planted bug.
type bug struct {
	Name string
	Rule string // of the lease protocol, or the guard that is missing
	By   []catcher
}

func lease(name, rule string, more ...catcher) bug {
	return bug{"lease-" + name, rule, append([]catcher{{"failover/lease", "^TestMutantSchedules$/^NAME$", passes}}, more...)}
}

func leaseSearch() catcher { return catcher{"failover/lease", "^TestMutantSearch$/^NAME$", passes} }

func handoff(name, rule string, more ...catcher) bug {
	return bug{name, rule, append([]catcher{{"failover/owner", "^TestMutantHandoff$/^NAME$", passes}}, more...)}
}

func inWorld(name, rule string, more ...catcher) bug {
	return bug{name, rule, append([]catcher{{"failover", "^TestMutantWorld$/^NAME$", passes}}, more...)}
}

func inFSM(name, rule, test string, more ...catcher) bug {
	return bug{"fsm-" + name, rule, append([]catcher{{"fsm", test, fails}}, more...)}
}

func inEdge(name, rule, test string, more ...catcher) bug {
	return bug{"edge-" + name, rule, append([]catcher{{"edge", test, fails}}, more...)}
}

func inAPI(name, rule, test string) bug {
	return bug{"api-" + name, rule, []catcher{{"api", test, fails}}}
}

func inPlane(name, rule, test string) bug {
	return bug{"plane-" + name, rule, []catcher{{"failover/plane", test, fails}}}
}

func inVoter(name, rule, test string) bug {
	return bug{"shell-" + name, rule, []catcher{{"failover/lease/shell", test, fails}}}
}

func inDoors(name, rule, test string) bug {
	return bug{"membership-door-" + name, rule, []catcher{{"membership", test, fails}}}
}

var (
	sim      = catcher{"jepsen/sim", "^TestMutantSim$", inSim}
	directed = catcher{"jepsen/sim", "^TestMutantDirected$", inSim}
)

// catalogue lists every planted bug, and the tests that notice it. Each has a patch beside this
// file, and each patch a row here: TestPatches.
var catalogue = []bug{
	inEdge("forget-blindly", "edge 1: forgotten only when a reading shows it nowhere", "^TestForgottenOnlyWhenItIsNowhere$", sim),
	inEdge("trust-open", "edge 2: what another life opened is shut first", "^TestLeftoversAreNotTrusted$"),
	inEdge("open-unread", "edge 2: opened only after a reading shows it", "^TestActivationAndRelease$", sim),
	inEdge("remove-open", "edge 2: shut before it is removed", "^TestActivationAndRelease$", sim),
	inEdge("on-before-off", "7, edge 2: off before on in one node", "^TestBetweenTwoDevices$"),
	inEdge("unread-is-absent", "edge 3: what cannot be read is not absent", "^TestWhatCannotBeReadIsNotAbsent$", directed),
	inEdge("no-back-off", "edge 3: what fails is tried again at a growing distance", "^TestFailuresBackOffAndAreSaidOnce$"),
	lease("first-promise", "1: opening is the first promise", leaseSearch()),
	{"session-answer-time", "1: the first deadline counts from the request", []catcher{directed}},
	{"renewer-ended", "4: a voter's word ends a session that the log has closed", []catcher{directed}},
	inPlane("authorised", "W: the plane renews only what the agent authorises", "^TestAStoppedAgentLosesItsLeaseLater$"),
	inPlane("suspended", "4, 9: no voters while the configuration changes", "^TestNoVotersWhileTheConfigurationChanges$"),
	inPlane("unsettled", "4, 9: the voters of the newest configuration in the log", "^TestNoVotersWhileTheConfigurationChanges$"),
	inPlane("unsure-duplicate", "1: a living session is not closed while nobody can say whether it is renewed", "^TestAPlaneThatDoesNotAnswer$"),
	inPlane("over", "3: a missed deadline stays missed, at the agent too", "^TestOverIsFinal$"),
	inPlane("abandoned", "the fence of a dead agent is nobody's but the guard's", "^TestStopLeavesTheFence$"),
	{"membership-reconfiguring", "9: who counts voters elsewhere is told before the configuration changes", []catcher{{"membership", "^TestReconfiguringComesFirst$", fails}}},
	{"agent-unclean", "1: the own side is clean before a new session", []catcher{sim}},
	inFSM("last-session", "1: the request names the last session", "^TestRefusals$"),
	inFSM("address-beside-session", "1: a node with a session is not taken for one at another address", "^TestSetAddressRefusals$"),
	inFSM("older-session", "1: opening closes the older session", "^TestRandomCommands$"),
	lease("send-time-deadline", "2: the deadline counts from the sending", leaseSearch()),
	lease("config-check", "2: the same voter set", leaseSearch()),
	lease("silence-ack", "2: silence before acknowledging"),
	lease("majority", "2, 5: a majority", leaseSearch()),
	lease("growth", "2: round and time of sending grow", leaseSearch(), directed),
	lease("boot", "2: a renewal names the voter's process", leaseSearch(), directed),
	inWorld("renewer-longer-pace", "2, 8: pace of the shorter lease", catcher{"failover/lease", "^TestRule8PaceOfTheShorterLease$", fails}),
	lease("continuity", "3: a missed deadline stays missed"),
	lease("revocation", "4: endorsed once, refused for ever"),
	lease("silence-endorse", "4: silence before endorsing"),
	lease("caught-up", "4: silence until caught up"),
	lease("config-age", "4: age of the voter set", leaseSearch()),
	lease("config-index", "4, 5: a set that comes back is new"),
	lease("hand-begins", "a promise in another hand: it begins with what was promised", leaseSearch()),
	lease("hand-round", "a promise in another hand: round and time of sending are taken back", leaseSearch()),
	lease("hand-until", "a promise in another hand: its end is taken back", leaseSearch()),
	inVoter("hand-question", "a promise in another hand: taken back before a question is answered", "^TestTakenBackBeforeAQuestion$"),
	inVoter("hand-goes-on", "a promise in another hand: a recall ends it", "^TestTakenBackBeforeAQuestion$"),
	inVoter("hand-progress", "a promise in another hand: what was promised is noted", "^TestTakenBackBefore"),
	inVoter("hand-voters", "a promise in another hand: taken back before the voters change", "^TestWhatChangesTakesAllBack$"),
	inVoter("hand-state", "a promise in another hand: taken back before sessions or lengths change", "^TestWhatChangesTakesAllBack$"),
	inVoter("hand-mark", "a promise in another hand: marked before the voters are looked at", "^TestMarkedBeforeTheLook$"),
	inVoter("hand-lost", "a promise in another hand: a voter that cannot take one back is silent for ever", "^TestWhatCannotBeTakenBack$"),
	inVoter("hand-stop", "a promise in another hand: a voter that stops takes all back", "^TestStopTakesAllBack$"),
	inVoter("count-final", "3 (continuity): what the holder has found over is over where the kernel counts, too", "^TestOverIsOverElsewhere$"),
	inVoter("count-taken", "the count in the kernel: the lease runs by what was counted there", "^TestTheLeaseRunsByWhatWasCountedElsewhere$"),
	inVoter("count-told", "the count in the kernel: it is told of a round before that is sent", "^TestTheLeaseRunsByWhatWasCountedElsewhere$"),
	inVoter("count-stop", "the count in the kernel: who ends a lease stops it", "^TestCountingStops$"),
	inVoter("count-abandon", "the count in the kernel: nobody but the guard touches the fence of a dead agent", "^TestCountingStops$"),
	inVoter("count-begin", "the count in the kernel: no session begins before that of the one before has surely ended", "^TestCountingStops$"),
	inVoter("count-own", "the count in the kernel: the own vote is that of this node's voter", "^TestTheOwnVoteIsItsOwn$"),
	{"guard-count-own", "the count in the kernel: the own vote counts where this node votes", []catcher{{"agent/guard", "^TestNoOwnVoteOfWhoDoesNotVote$", fails}}},
	{"lease-counted-dead", "3 (continuity): what was counted elsewhere is no news to a lease that is over", []catcher{{"failover/lease", "^TestCountedElsewhere$", fails}}},
	{"fence-extend-ended", "3 (continuity): a deadline of 0 is moved by nobody", []catcher{{"netdev/fence", "^TestSharedDeadline$", fails}}},
	{"fence-expire-kept", "3 (continuity): what was found passed becomes 0", []catcher{{"netdev/fence", "^TestSharedDeadline$", fails}}},
	inPlane("shown-ended", "3 (continuity): the agent is shown no deadline of a session that has ended", "^TestTheShownDeadlineOnlyGrows$"),
	inVoter("dated-early", "1, 4: what the log says is dated after it was read", "^TestDatedAfterTheLook$"),
	{"guard-one-plane", "3: one process at a time promises in a voter's name", []catcher{{"agent/guard", "^TestOneLeasePlane$", fails}}},
	{"membership-pipeline", "a refusal ends the pipeline that Raft no longer reads", []catcher{{"membership", "^TestAPipelineEndsWithItsFirstRefusal$", fails}}},
	{"membership-read-replicas", "reads: a majority of the voters, and of nobody else", []catcher{{"membership", "^TestAReadIsConfirmedByAMajorityOfVoters$", fails}}},
	{"membership-read-deposed", "reads: a node that is in another term confirms nothing", []catcher{{"membership", "^TestADeposedLeaderConfirmsNothing$", fails}}},
	{"membership-voters-early", "5: the voters by which Raft counts", []catcher{{"membership", "^TestVotersCostNothing$", fails}}},
	{"membership-caught-up", "4: silence until caught up", []catcher{{"membership", "^TestCaughtUp$", fails}}},
	inWorld("closing-first-hint", "4, 5: who is asked when", catcher{"failover/lease", "^TestWhoIsAskedWhen$", fails}),
	{"closing-on-hints", "4, 5: a hint proves nothing", []catcher{directed}},
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
	{"handoff-session-tie", "7: the release names the session", []catcher{{"failover/owner", "^TestAReleaseOfAnotherSession$", fails}}},
	handoff("handoff-relabel-early", "7: a change of mind waits too"),
	handoff("handoff-never-activated", "7: \"I never will\""),
	handoff("handoff-recall-active", "7: what answers is not recalled"),
	{"handoff-recall-unknown", "7: a promise is never forgotten", []catcher{{"failover/owner", "^TestRecalled$", fails}}},
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
	inFSM("opening-max", "8: a longer first lease stays in force", "^TestALongerFirstLease$"),
	inFSM("opening-settle", "8: settled is the newest change, first leases among them", "^TestALongerFirstLease$"),
	{"controller-behind", "a node that does not apply is no owner", []catcher{{"failover/leader", "^TestANodeThatDoesNotApplyIsNoOwner$", fails}, directed}},
	{"controller-settle-early", "8: the longer length has run out", []catcher{directed}},
	inFSM("guard", "6: guarded by every node before it is placed", "^TestGuardBeforePlacement$"),
	inFSM("check-dark", "a check that fails everywhere leaves no HAVIP dark", "^TestCheckBars$"),
	{"health-undamped", "a check that flaps changes its state ever more seldom", []catcher{{"health", "^TestFlappingIsDamped$", fails}}},
	inFSM("guard-open", "1: a session begins with a fence that knows every HAVIP", "^TestGuardBeforeASession$", directed),
	inFSM("served", "a new owner serves when it says so", "^TestServed$", sim),
	inFSM("remove-open", "9: removed only without a session", "^TestRandomCommands$"),
	{"membership-open-session", "9: removed only without a session", []catcher{{"membership", "^TestNextChange$", fails}}},
	lease("drift-margin", "notation: drift margin", leaseSearch(), directed),
	inFSM("key", "a repeated request is done once", "^TestCommandRoundTrip$"),
	{"shell-ended-lagging", "3: a voter calls a session ended that its log has closed, and no other", []catcher{{"failover/lease/shell", "^TestWhatIsClosed$", fails}}},
	{"membership-commit-beyond", "a server is told of what is committed, and of no more", []catcher{{"membership", "^TestTheWordOfACommit$", fails}}},
	{"membership-term-voter", "a term counts only when a voter says it", []catcher{{"membership", "^TestWhoseTermCounts$", fails}}},
	{"vote-comes-back-at-once", "A vote that was handed over stays away while its node is stopped", []catcher{{"membership", "^TestNextChange$", fails}}},
	{"snapshot-other-cluster", "The snapshot of another cluster is taken by its id alone", []catcher{{"cmd/havip-cluster", "^TestSnapshotOfAnotherCluster$", fails}}},
	{"vote-not-declined", "A node without a vote that stops is not made the second voter", []catcher{{"membership", "^TestHandOverVote$", fails}}},
	{"vote-silence-once", "A vote that comes back waits for the silence each time", []catcher{{"membership", "^TestReadyStartsAnew$", fails}}},
	{"vote-resting-stays", "A voter whose vote rests is not one that stays when another is removed", []catcher{{"membership", "^TestMayRemove$", fails}}},
	{"vote-taken-of-both", "Of two voters that both stop, both keep their votes", []catcher{{"membership", "^TestNextChange$", fails}}},
	inFSM("register-key", "a node registers its own key alone", "^TestOwnCommandsOfLevel4$"),
	{"membership-barrier", "a leader is up to date", []catcher{{"membership", "^TestTheFounderInitialisesOnce$", fails}}},
	inWorld("failover-sender", "words are bound to their sender", directed),
	inWorld("failover-gossip-keyed", "by gossip nobody speaks for a node that has a key", directed),
	{"words-window", "a sealed word counts once", []catcher{{"membership/datagram", "^TestWindowAgainstASet$|^TestReplaysDoNotCount$", fails}}},
	{"datagram-tagged", "tagged frames: none without its tag", []catcher{{"membership/datagram", "^TestMangledTaggedFrames$", fails}}},
	{"datagram-offer", "tagged frames: only to who has offered to take them", []catcher{{"membership/datagram", "^TestTagged$", fails}}},
	{"leader-learns", "a move goes to a node that knows its own session", []catcher{{"failover/leader", "^TestAMoveNeedsANodeThatKnowsItsSession$", fails}}},
	{"words-old-channel", "a sealed word counts in one life of its sender and receiver", []catcher{{"membership/datagram", "^TestReplaysDoNotCount$", fails}}},
	{"words-removed-key", "removal ends the right to speak at once", []catcher{{"membership/datagram", "^TestARemovedNodeSaysNothing$", fails}}},
	inDoors("suffrage", "only a voter speaks Raft", "^TestOnlyVotersSpeak$"),
	inDoors("member", "who is in no configuration does not speak Raft", "^TestOnlyVotersSpeak$"),
	inDoors("sender", "nobody speaks for another", "^TestOnlyVotersSpeak$"),
	inDoors("cut", "removal ends what is open", "^TestRemovalCutsWhatIsOpen$"),
	inDoors("dial", "the dialler names whom it wants", "^TestTheDiallerNamesWhomItWants$"),
	{"membership-checksum", "an entry that is not what was written is refused", []catcher{{"membership", "^TestOpenRefusesADamagedEntry$|^TestADamagedEntryHalts$", fails}}},
	inDoors("old-word", "a word for a voter is newer than what is known", "^TestVouching$"),
	inFSM("ca-dropped-early", "keys: the old CA is trusted until every node has a certificate of the new one", "^TestTheCAIsReplaced$"),
	inFSM("gossip-dropped-early", "keys: the old gossip key is known until every node uses the new one", "^TestTheGossipKeyIsReplaced$"),
	{"fsm-superseded", "keys: a certificate that ended is worth nothing beside a newer one", []catcher{{"api", "^TestAnEndedCertificateOpensItsRenewal$", fails}}},
	{"identity-grace-unbounded", "keys: the grace of a certificate that ended has an end", []catcher{{"membership/identity", "^TestGraceHasAnEnd$", fails}}},
	{"membership-renew-name", "keys: a certificate is renewed for its own node alone", []catcher{{"membership", "^TestARenewalUnderAnotherName$", fails}}},
	{"keys-behind", "keys: nothing is erased by a state that is older than the log", []catcher{{"membership", "^TestAKeyOutlivesAnOldSnapshot$", fails}}},
	{"keys-made-before", "keys: a new key is one that was made for its rotation", []catcher{{"membership", "^TestANewKeyIsNoneOfBefore$", fails}, {"membership/identity", "^TestWhatAKeyWasMadeFor$", fails}}},
	{"console-foreign", "console: a change comes from a page of its own", []catcher{{"api/console", "^TestChangesFromElsewhere$", fails}}},
	{"console-session", "console: a session ends", []catcher{{"api/console", "^TestSessions$", fails}}},
	{"console-panic", "console: a handler that panics ends its own answer, not the agent", []catcher{{"api/console", "^TestHandlerPanics$", fails}}},
	{"api-ended-certificate", "keys: a certificate that ended opens its renewal alone", []catcher{{"api", "^TestAnEndedCertificateOpensItsRenewal$", fails}}},
	inAPI("no-rule", "rights: every route has a rule", "^TestEveryRoute$"),
	inAPI("node-admin", "rights: a node's certificate is no admin", "^TestEveryRoute$|^TestForwardedLies$"),
	inAPI("expired-token", "rights: an expired token is none", "^TestEveryRoute$"),
	inFSM("node-admin", "rights: a node's own root cares for that node alone", "^TestPermits$"),
	inFSM("scope", "rights: a token of a group touches its HAVIPs alone", "^TestScope$"),
	inFSM("expired-token", "rights: the log's order decides when a token ended", "^TestTokensInTheLog$"),
	inFSM("key-principal", "rights: a key belongs to its principal", "^TestKeysOfPrincipals$"),
	{"membership-role", "rights: asked where it is proposed", []catcher{{"membership", "^TestTheLeaderAsksForRights$", fails}}},
	{"membership-ca-key", "rights: the CA's key goes to few", []catcher{{"membership", "^TestRolesInRaft$", fails}}},
	{"membership-take-back", "what failed is taken back", []catcher{{"membership", "^TestALeadersStalledWriteFailsAndIsTakenBack$|^TestWhatCannotBeTakenBackIsTriedAgain$", fails}}},
	{"membership-ballot-answer", "an answer leaves when the term that it tells is on disk", []catcher{{"membership", "^TestTermIsOnDiskBefore$", fails}}},
	{"membership-ballot-entry", "no entry is on disk before its term is", []catcher{{"membership", "^TestTermIsOnDiskBefore$", fails}}},
	{"membership-ballot-vote", "one vote in a term, over restarts", []catcher{{"membership", "^TestOneVoteInATerm$", fails}}},
	{"membership-ballot-older", "one vote in a term, also when the version before starts on the data", []catcher{{"membership", "^TestOneVoteInATerm$", fails}}},
	{"fence-port-unknown", "fence: a port of an unknown HAVIP is shut", []catcher{{"netdev/fence", "^TestPorts$", fails}}},
	{"edge-probe-untied", "probe: the fence has the port before the kernel answers on it", []catcher{{"edge", "^TestProbeOnTheRealKernel$", fails}}},
	{"edge-probe-stays", "probe: it ends with its HAVIP", []catcher{{"edge", "^TestProbeComesAndGoesWithItsHAVIP$|^TestLeftoverPorts$", fails}}},
	inFSM("probe-port", "probe: no two HAVIPs have one port", "^TestProbePorts$"),
	inFSM("probe-leaves", "probe: a port is given up only while nobody may answer there", "^TestProbePorts$"),
	{"provider-claim-epoch", "claim: an answer counts for the epoch that was asked for", []catcher{{"provider", "^TestEpochsFence$", fails}}},
	{"provider-claim-beside", "claim: one HAVIP has one call under way", []catcher{{"provider", "^TestOneCallForAHAVIP$", fails}}},
	{"provider-claim-lost", "claim: what the cloud sends elsewhere is claimed again", []catcher{{"provider", "^TestAClaimIsMadeOnceAndConfirmed$", fails}}},
	{"owner-sent", "claim: a HAVIP is served when the cloud sends it to its owner", []catcher{{"failover", "^TestServedWhenTheCloudSendsItThere$", fails}}},
	{"provider-prune", "cloud: without --prune nothing is taken away there", []catcher{{"provider", "^TestNothingIsTakenAway$", fails}}},
	{"tencent-lost-answer", "cloud: a lost answer is judged by a look", []catcher{{"provider/tencent", "^TestLostAnswer$", fails}}},
	{"fence-not-shut", "fence: shut means silent", []catcher{{"netdev/fence", "^TestStates$|^TestFrameTable$", fails}}},
	{"fence-link", "fence: outlives the process", []catcher{{"netdev/fence", "^TestKilled$", fails}}},
	{"fence-any-anchor", "fence: processes of one owner agree on the oldest anchor", []catcher{{"netdev/fence", "^TestOldestAnchorStays$", fails}}},
	{"fence-stale-timeout", "fence: the clock is read after the transaction", []catcher{{"netdev/fence", "^TestStoppedInTransaction$", fails}}},
}
