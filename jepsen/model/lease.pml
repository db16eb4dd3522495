/*
 * The lease protocol of failover/lease, rules 1 to 5. DESIGN.md says what is and is not
 * covered; the Makefile target "model" runs it. Rules are cited by number.
 *
 * One process, one nondeterministic choice per step, each step indivisible. Time is a tick
 * that may come at any moment and takes one from every timer; no clock value is kept, so
 * time has no end and the state space is finite all the same.
 *
 * Lost messages: a step that is never taken. Late and reordered ones: a step taken later.
 * Repeated ones: they only repeat a promise or an answer that is already counted.
 *
 * Parameters (-D): NS sessions, NR open rounds per session, L, RESTARTS, CHANGES, CHAIN.
 * -DNO_RULE_x removes rule x. -DHAND: a voter delegates to a program in the kernel; then NS is 1.
 */

#ifndef NS
#define NS 1		/* 1: the other holder is taken to be always alive */
#endif
#ifndef NR
#define NR 1
#endif
#ifndef L
#define L 2
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif
#ifndef CHANGES
#define CHANGES 1
#endif
#ifndef LAGS
#define LAGS 1
#endif

/* Voter sets as bit masks, each one voter from the one before. */
#define SHRINK 1
#define REPLACE 2
#ifndef CHAIN
#define CHAIN SHRINK
#endif
#if CHAIN == SHRINK
#define NV 3
#define SET(i) ((i) == 0 -> 7 : ((i) == 1 -> 3 : 1))
#else
#define NV 4
#define SET(i) ((i) == 0 -> 7 : ((i) == 1 -> 15 : 14))
#endif

#ifdef NO_RULE_drift_margin
#define P L
#else
#define P (L + 1)	/* the margin: a holder's clock may lag by one tick */
#endif
#define QMAX (L / 2)	/* rule 5: the age of a question */

#define BITS(m) (((m) & 1) + (((m) >> 1) & 1) + (((m) >> 2) & 1) + (((m) >> 3) & 1))
#ifdef NO_RULE_majority
#define WON(m, set) (2 * BITS((m) & (set)) >= BITS(set) - 1)
#else
#define WON(m, set) (2 * BITS((m) & (set)) > BITS(set))
#endif
#define HAS(m, v) (((m) >> (v)) & 1)

/* A session of holder s: nothing, asked for, opened by the log, known to its holder. */
#define NONE 0
#define ASKED 1
#define OPEN 2
#define HELD 3

byte st[NS];
byte dl[NS];		/* what is left of the lease by the holder's clock; 0: over */
bit closed[NS];		/* the log has closed it */
bit bel[NS];		/* the log has given it the HAVIP, once */
byte lags = LAGS;	/* ticks that a holder's clock may still miss */

/* Round r of session s is at s * NR + r. */
bit on[NS * NR];
byte age[NS * NR];	/* by the holder's clock, below L */
byte rcfg[NS * NR];	/* its voter set */
byte acks[NS * NR];	/* voters that have acknowledged; the holder counts later */

/* Voter v about session s is at s * NV + v. */
bit known[NS * NV];	/* has applied the opening */
bit revoked[NS * NV];
byte pr[NS * NV];	/* what is left of the promise */
byte silent[NV];	/* what is left of the silence after a restart */
byte young[NV];		/* until its voter set is P old */
byte cfg[NV];		/* its voter set, the latest in its log */
byte restarts = RESTARTS;

byte lcfg;		/* the leader's voter set, the latest in its log */

/* The leader's question. */
bit asked;
byte qs;		/* about which session */
byte qage;		/* QMAX + 1: too old */
byte qcfg;
byte qend;		/* voters that have endorsed */

#define SESSION(s) (st[s] >= OPEN && !closed[s])
#define ANSWERS(s) (bel[s] && st[s] == HELD && dl[s] > 0)
#if NS == 1
#define SAFE (!(closed[0] && dl[0] > 0 && st[0] == HELD))
#else
#define SAFE (!(ANSWERS(0) && ANSWERS(1)))
#endif
#define S(s) ('A' + (s))

/* -- the holder -- */

/* Rule 1: the deadline counts from the sending of the request. */
#define ASK(s) \
	:: d_step { st[s] == NONE -> \
		printf("  holder %c asks for a session\n", S(s)); \
		st[s] = ASKED; dl[s] = L }

#define COMMIT_OPEN(s) \
	:: d_step { st[s] == ASKED -> \
		printf("  the log opens the session of %c\n", S(s)); \
		st[s] = OPEN; GIVE(s) }

#ifdef NO_RULE_request_time
#define FIRST(s) dl[s] = L
#else
#define FIRST(s) skip
#endif
#define LEARN(s) \
	:: d_step { st[s] == OPEN -> \
		printf("  %c learns of its session\n", S(s)); \
		st[s] = HELD; FIRST(s); assert(SAFE) }

/* Rule 3: a lease that is over stays over. */
#ifdef NO_RULE_continuity
#define ALIVE(s) (st[s] == HELD)
#else
#define ALIVE(s) (st[s] == HELD && dl[s] > 0)
#endif

/* Rule 2: sent + L, when a majority has acknowledged. */
#ifdef NO_RULE_send_time
#define REACHED(i) L
#else
#define REACHED(i) (L - age[i])
#endif
#define COUNT(s, r) \
	:: d_step { ALIVE(s) && on[s * NR + r] && WON(acks[s * NR + r], SET(rcfg[s * NR + r])) -> \
		COUNTED(s, r) }
#define COUNTED(s, r) \
		dl[s] = (REACHED(s * NR + r) > dl[s] -> REACHED(s * NR + r) : dl[s]); \
		printf("  %c counts a majority (slot %d): %d ticks left\n", S(s), r, dl[s]); \
		on[s * NR + r] = 0; age[s * NR + r] = 0; rcfg[s * NR + r] = 0; acks[s * NR + r] = 0; \
		assert(SAFE)

/* -- the voters -- */

#include "hand.pml"

/* Rule 1: the opening is the first promise. */
#ifdef NO_RULE_first_promise
#define PFIRST 0
#else
#define PFIRST P
#endif
#define APPLY(s, v) \
	:: d_step { st[s] >= OPEN && !known[s * NV + v] -> \
		printf("  voter %d applies the opening of %c\n", v, S(s)); \
		known[s * NV + v] = 1; pr[s * NV + v] = PFIRST }

#ifdef NO_RULE_silence_ack
#define SILENT_ACK(v) 0
#else
#define SILENT_ACK(v) (silent[v] > 0)
#endif
#ifdef NO_RULE_config_check
#define SAME_ACK(v, c) 1
#else
#define SAME_ACK(v, c) (cfg[v] == c)
#endif
#define MAY_ACK(s, v, c) (known[s * NV + v] && !revoked[s * NV + v] && !SILENT_ACK(v) && HAS(SET(cfg[v]), v) && SAME_ACK(v, c) && SURE(v) && TAKEN_BACK(v))
#define ACK(s, r, v) \
	:: d_step { on[s * NR + r] && !HAS(acks[s * NR + r], v) && MAY_ACK(s, v, rcfg[s * NR + r]) -> \
		printf("  voter %d acknowledges the round of %c (slot %d) and promises %d ticks\n", v, S(s), r, P); \
		acks[s * NR + r] = acks[s * NR + r] | (1 << v); pr[s * NV + v] = P; COUNT_NOW(s, r) }

/* Rule 4. */
#ifdef NO_RULE_silence_endorse
#define SILENT_END(v) 0
#else
#define SILENT_END(v) (silent[v] > 0)
#endif
#ifdef NO_RULE_config_age
#define YOUNG(v) 0
#else
#define YOUNG(v) (young[v] > 0)
#endif
#ifdef NO_RULE_config_endorse
#define SAME_END(v, c) 1
#else
#define SAME_END(v, c) (cfg[v] == c)
#endif
#ifdef NO_RULE_revocation
#define REVOKE(i) skip
#else
#define REVOKE(i) revoked[i] = 1
#endif
#define MAY_ENDORSE(s, v, c) (known[s * NV + v] && !SILENT_END(v) && !YOUNG(v) && pr[s * NV + v] == 0 && HAS(SET(cfg[v]), v) && SAME_END(v, c) && SURE(v) && TAKEN_BACK_END(v))
#define ENDORSE(s, v) \
	:: d_step { asked && qs == s && !HAS(qend, v) && MAY_ENDORSE(s, v, qcfg) -> \
		printf("  voter %d endorses that %c has expired\n", v, S(s)); \
		qend = qend | (1 << v); REVOKE(s * NV + v) }

/*
 * Words are bound to their sender: an acknowledgement or an endorsement in a voter's name is that
 * voter's, so nobody else has a step here. Without that, somebody says it for a voter that has
 * promised nothing, or still promises.
 */
#ifdef NO_RULE_sender_ack
#define FORGE_ACK(s, v) \
	:: d_step { on[s * NR] && !HAS(acks[s * NR], v) -> \
		printf("  somebody acknowledges the round of %c in the name of voter %d\n", S(s), v); \
		acks[s * NR] = acks[s * NR] | (1 << v) }
#else
#define FORGE_ACK(s, v)
#endif
#ifdef NO_RULE_sender_end
#define FORGE_END(s, v) \
	:: d_step { asked && qs == s && !HAS(qend, v) -> \
		printf("  somebody endorses that %c has expired in the name of voter %d\n", S(s), v); \
		qend = qend | (1 << v) }
#else
#define FORGE_END(s, v)
#endif

#if NS == 1
#define FORGET(v) pr[v] = 0; revoked[v] = 0
#else
#define FORGET(v) pr[v] = 0; revoked[v] = 0; pr[NV + v] = 0; revoked[NV + v] = 0
#endif
/* Nothing is on disk but the log. The replay makes no promise here, so silence alone guards. */
#define RESTART(v) \
	:: d_step { restarts > 0 -> \
		printf("  voter %d restarts and has forgotten its promises\n", v); \
		restarts--; silent[v] = P; HAND_ENDS(v) FORGET(v) }

/* -- the voter set -- */

#define APPEND(v) \
	:: d_step { cfg[v] < lcfg -> \
		cfg[v] = cfg[v] + 1; APPENDED(v); \
		printf("  voter %d has voter set %d in its log\n", v, cfg[v]) }

#if NV == 3
#define HAVE(i) ((cfg[0] >= (i)) | ((cfg[1] >= (i)) << 1) | ((cfg[2] >= (i)) << 2))
#else
#define HAVE(i) ((cfg[0] >= (i)) | ((cfg[1] >= (i)) << 1) | ((cfg[2] >= (i)) << 2) | ((cfg[3] >= (i)) << 3))
#endif
#define TWO_OR_MORE(m, set) (2 * BITS((m) & (set)) > BITS(set))
/* Rule 9: the set before it must be committed. Rule 5: a change drops the open question. */
#ifdef NO_RULE_config_leader
#define DROP skip
#else
#define DROP CLEAR
#endif
#define CLEAR asked = 0; qs = 0; qage = 0; qcfg = 0; qend = 0
#define CHANGE \
	:: d_step { lcfg < CHANGES && TWO_OR_MORE(HAVE(lcfg), SET(lcfg)) -> \
		lcfg++; printf("  the leader appends voter set %d\n", lcfg); DROP }

/* -- the leader -- */

#ifdef NO_RULE_question_age
#define YOUNG_QUESTION 1
#else
#define YOUNG_QUESTION (qage <= QMAX)
#endif

#if NS == 1
#define PASS(s) skip
#define GIVE(s) bel[s] = 1
#define PLACE(s)
#else
#define PASS(s) bel[1 - s] = (SESSION(1 - s) -> 1 : bel[1 - s])
#define FREE (!(SESSION(0) && bel[0]) && !(SESSION(1) && bel[1]))
#define GIVE(s) bel[s] = (FREE -> 1 : 0)
#define PLACE(s) \
	:: d_step { FREE && SESSION(s) && !bel[s] -> \
		printf("  the log gives the HAVIP to %c\n", S(s)); \
		bel[s] = 1; assert(SAFE) }
#endif
/* Rule 5: the close and the new placement are one entry. */
#define CLOSE(s) \
	:: d_step { asked && qs == s && SESSION(s) && YOUNG_QUESTION && WON(qend, SET(qcfg)) -> \
		printf("  the leader counts a majority: the log closes %c and gives the HAVIP to the other; %c has %d ticks left\n", S(s), S(s), dl[s]); \
		closed[s] = 1; PASS(s); CLEAR; assert(SAFE) }

/* -- time -- */

#define DEC(x) x = (x > 0 -> x - 1 : 0)
#define OLDER(i) \
	age[i] = (on[i] -> age[i] + 1 : 0); \
	on[i] = (age[i] >= L -> 0 : on[i]); \
	rcfg[i] = (on[i] -> rcfg[i] : 0); acks[i] = (on[i] -> acks[i] : 0); age[i] = (on[i] -> age[i] : 0)
#if NR == 1
#define OWN_CLOCK(s) DEC(dl[s]); OLDER(s)
#else
#define OWN_CLOCK(s) DEC(dl[s]); OLDER(s * NR); OLDER(s * NR + 1)
#endif
#define VOTER_CLOCK(v) DEC(silent[v]); DEC(young[v]); HAND_CLOCK(v)

/*
 * By rule 3 nothing can come of a session whose lease is over, so it is forgotten and its
 * holder may ask for another, as it does (rule 1: that opening closes the old session).
 * That the HAVIP is free at once, before any close, only adds behaviour.
 */
inline bury(s)
{
	if
	:: st[s] != NONE && dl[s] == 0 ->
		st[s] = NONE; closed[s] = 0; bel[s] = 0;
		for (i : s * NR .. s * NR + NR - 1) { on[i] = 0; age[i] = 0; rcfg[i] = 0; acks[i] = 0 }
		for (i : s * NV .. s * NV + NV - 1) { known[i] = 0; revoked[i] = 0; pr[i] = 0; HAND_BURIED(i) }
		i = 0;
		if :: asked && qs == s -> CLEAR :: else fi
	:: else
	fi
}

inline voters_clocks()
{
	for (i : 0 .. NS * NV - 1) { DEC(pr[i]) }
	for (i : 0 .. NV - 1) { VOTER_CLOCK(i) }
	i = 0;
	qage = (asked && qage <= QMAX -> qage + 1 : qage);
#ifndef NO_RULE_question_age
	/* An endorsement of an old question counts for nothing. */
	if :: qage > QMAX -> CLEAR :: else fi
#endif
#if defined(BURY) && !defined(NO_RULE_continuity)
	bury(0);
#if NS == 2
	bury(1);
#endif
#endif
}

#if NS == 1
#define OWN_CLOCKS OWN_CLOCK(0)
#else
#define OWN_CLOCKS OWN_CLOCK(0); OWN_CLOCK(1)
#endif

/*
 * -DEAGER leaves out delays that only help: the log opens a session the moment it is asked
 * for (later there is less lease and newer promises), every voter applies that at once (its
 * promise ends sooner), a round and a question begin with their first answer (they are
 * younger), and the answer that makes a majority of a round is counted at once (later gives
 * the same deadline). Without these states two sessions fit into memory.
 */
#ifdef EAGER
#define OPENING(s) \
	:: d_step { st[s] == NONE -> \
		printf("  the log opens a session of %c, which all voters apply\n", S(s)); \
		st[s] = HELD; dl[s] = L; GIVE(s); \
		for (i : s * NV .. s * NV + NV - 1) { known[i] = 1; pr[i] = PFIRST } \
		i = 0; assert(SAFE) }
#define COUNT_NOW(s, r) \
	if :: ALIVE(s) && WON(acks[s * NR + r], SET(rcfg[s * NR + r])) -> COUNTED(s, r) :: else fi
#define COUNT_LATER(s, r)
/* A round that cannot move the deadline is not worth a state. */
#define BEGIN(s, r, c) BEGIN_AT(s, r, c, 0) BEGIN_AT(s, r, c, 1) BEGIN_AT(s, r, c, 2) FOURTH_BEGIN(s, r, c) \
	BEGIN_HAND(s, r, c, 0) BEGIN_HAND(s, r, c, 1) BEGIN_HAND(s, r, c, 2)
#define BEGIN_AT(s, r, c, v) \
	:: d_step { ALIVE(s) && dl[s] < L && (c) <= lcfg && MAY_ACK(s, v, c) -> \
		printf("  %c begins a round by set %d (slot %d), which voter %d acknowledges and promises %d ticks\n", S(s), c, r, v, P); \
		on[s * NR + r] = 1; age[s * NR + r] = 0; rcfg[s * NR + r] = c; \
		acks[s * NR + r] = 1 << v; pr[s * NV + v] = P; COUNT_NOW(s, r) }
#define QUESTION(s) EACH_VOTER_OF(s, QUESTION_AT)
#define QUESTION_AT(s, v) \
	:: d_step { SESSION(s) && MAY_ENDORSE(s, v, lcfg) -> \
		printf("  the leader asks all voters of set %d about %c; voter %d endorses that it has expired\n", lcfg, S(s), v); \
		asked = 1; qs = s; qage = 0; qcfg = lcfg; qend = 1 << v; REVOKE(s * NV + v) }
#else
#define OPENING(s) ASK(s) COMMIT_OPEN(s) LEARN(s) EACH_VOTER_OF(s, APPLY)
#define COUNT_NOW(s, r) skip
#define COUNT_LATER(s, r) COUNT(s, r)
/* A round takes the place of an older one in its slot. The holder may lag: any set so far. */
#define BEGIN(s, r, c) \
	:: d_step { ALIVE(s) && (c) <= lcfg && !(on[s * NR + r] && age[s * NR + r] == 0 && rcfg[s * NR + r] == c && acks[s * NR + r] == 0) -> \
		printf("  %c begins a round by set %d (slot %d)\n", S(s), c, r); \
		on[s * NR + r] = 1; age[s * NR + r] = 0; rcfg[s * NR + r] = c; acks[s * NR + r] = 0 }
#define QUESTION(s) \
	:: d_step { SESSION(s) && !(asked && qs == s && qage == 0 && qcfg == lcfg && qend == 0) -> \
		printf("  the leader asks all voters of set %d about %c\n", lcfg, S(s)); \
		asked = 1; qs = s; qage = 0; qcfg = lcfg; qend = 0 }
#endif

#define EACH_VOTER_OF(s, M) M(s, 0) M(s, 1) M(s, 2) FOURTH_OF(s, M)
#define ACKS(s, r) ACK(s, r, 0) ACK(s, r, 1) ACK(s, r, 2) FOURTH_ACK(s, r)
#if NV == 3
#define FOURTH_OF(s, M)
#define FOURTH_ACK(s, r)
#define FOURTH_BEGIN(s, r, c)
#define EACH_VOTER(M) M(0) M(1) M(2)
#else
#define FOURTH_OF(s, M) M(s, 3)
#define FOURTH_ACK(s, r) ACK(s, r, 3)
#define FOURTH_BEGIN(s, r, c) BEGIN_AT(s, r, c, 3)
#define EACH_VOTER(M) M(0) M(1) M(2) M(3)
#endif
#if CHANGES == 0
#define BEGINS(s, r) BEGIN(s, r, 0)
#elif CHANGES == 1
#define BEGINS(s, r) BEGIN(s, r, 0) BEGIN(s, r, 1)
#else
#define BEGINS(s, r) BEGIN(s, r, 0) BEGIN(s, r, 1) BEGIN(s, r, 2)
#endif
#define ROUND(s, r) BEGINS(s, r) COUNT_LATER(s, r) ACKS(s, r)
#if NR == 1
#define ROUNDS(s) ROUND(s, 0)
#else
#define ROUNDS(s) ROUND(s, 0) ROUND(s, 1)
#endif
#define OF_SESSION(s) OPENING(s) ROUNDS(s) \
	QUESTION(s) EACH_VOTER_OF(s, ENDORSE) CLOSE(s) PLACE(s) \
	EACH_VOTER_OF(s, FORGE_ACK) EACH_VOTER_OF(s, FORGE_END) OTHER_HANDS(s)

active proctype protocol()
{
	byte i;
	do
	OF_SESSION(0)
#if NS == 2
	OF_SESSION(1)
	:: d_step { lags > 0 -> printf("tick; the clock of A misses it\n"); lags--; OWN_CLOCK(1); voters_clocks() }
	:: d_step { lags > 0 -> printf("tick; the clock of B misses it\n"); lags--; OWN_CLOCK(0); voters_clocks() }
#else
	:: d_step { lags > 0 -> printf("tick; the clock of A misses it\n"); lags--; voters_clocks() }
#endif
	EACH_VOTER(RESTART)
	EACH_VOTER(APPEND)
	CHANGE
	:: d_step { true -> printf("tick\n"); OWN_CLOCKS; voters_clocks() }
	od
}
