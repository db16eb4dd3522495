/*
 * A promise in another hand (lease.Delegation). The process may hand it over whenever it would acknowledge; it is
 * in one hand at a time. The other hand knows nothing of restarts, revocations and voter sets: it goes on
 * until it is recalled, or the log has another set than the one it was delegated by (the page), or the process ends.
 */
#ifdef HAND
#if NS != 1 || NV != 3
#error "HAND is for one session and three voters"
#endif
byte used[NV];		/* the voter set that its process goes by, which may stand still while the log goes on */
bit hand[NV];		/* its promise to A is in another hand */
byte hpr[NV];		/* what is left of the promise there */
byte hcfg[NV];		/* the voter set by which it was delegated */

#ifdef NO_RULE_hand_voters
#define SAME_PAGE(v) 1
#else
#define SAME_PAGE(v) (hcfg[v] == cfg[v])
#endif
#ifdef NO_RULE_hand_goes_on
#define LET_GO(v) skip
#else
#define LET_GO(v) hand[v] = 0; hpr[v] = 0; hcfg[v] = 0
#endif
#ifdef NO_RULE_hand_until
#define TAKE(v) skip
#else
#define TAKE(v) pr[v] = (hpr[v] > pr[v] -> hpr[v] : pr[v])
#endif
#ifdef NO_RULE_hand_process
bit orphan[NV];		/* the process that has delegated is dead, and the next one knows nothing of it */
#define HAND_ENDS(v) orphan[v] = hand[v];
#define HAND_BURIED(v) hand[v] = 0; hpr[v] = 0; hcfg[v] = 0; orphan[v] = 0
#define TAKEN_BACK(v) (!hand[v] || orphan[v])
#else
#define HAND_ENDS(v) hand[v] = 0; hpr[v] = 0; hcfg[v] = 0;
#define HAND_BURIED(v) hand[v] = 0; hpr[v] = 0; hcfg[v] = 0
#define TAKEN_BACK(v) (!hand[v])
#endif
#define HAND_CLOCK(v) DEC(hpr[v])
#define SURE(v) (used[v] == cfg[v])	/* the page: no voters until the process has followed the log */
#ifdef NO_RULE_hand_recall
#define TAKEN_BACK_END(v) 1
#else
#ifdef NO_RULE_hand_goes_on
#define TAKEN_BACK_END(v) (hpr[v] == 0)	/* what was promised is known; hand[v] stays */
#else
#define TAKEN_BACK_END(v) TAKEN_BACK(v)
#endif
#endif
#define DELEGATE(v) \
	:: d_step { !hand[v] && MAY_ACK(0, v, cfg[v]) && SAME_ACK(v, cfg[v]) -> \
		printf("  voter %d delegates its promise to A\n", v); \
		hand[v] = 1; hpr[v] = pr[v]; hcfg[v] = cfg[v] }
#define RECALL(v) \
	:: d_step { !TAKEN_BACK(v) -> \
		printf("  voter %d takes its promise to A back\n", v); \
		TAKE(v); LET_GO(v) }
#define FOLLOW(v) \
	:: d_step { used[v] < cfg[v] && TAKEN_BACK(v) -> \
		used[v] = cfg[v]; young[v] = P; \
		printf("  voter %d goes by voter set %d\n", v, used[v]) }
#define MAY_ACK_HAND(v, c) (hand[v] && hcfg[v] == c && SAME_PAGE(v))
#define ACK_HAND(s, r, v) \
	:: d_step { on[r] && !HAS(acks[r], v) && MAY_ACK_HAND(v, rcfg[r]) -> \
		printf("  the other hand of voter %d acknowledges the round of A (slot %d) and promises %d ticks\n", v, r, P); \
		acks[r] = acks[r] | (1 << v); hpr[v] = P; COUNT_NOW(0, r) }
#define OTHER_HANDS(s) EACH_VOTER(DELEGATE) EACH_VOTER(RECALL) EACH_VOTER(FOLLOW) EACH_VOTER_OF_ROUND(s, 0, ACK_HAND)
#define EACH_VOTER_OF_ROUND(s, r, M) M(s, r, 0) M(s, r, 1) M(s, r, 2)
#define APPENDED(v) skip	/* it does not know yet */
#define BEGIN_HAND(s, r, c, v) \
	:: d_step { ALIVE(s) && dl[s] < L && (c) <= lcfg && MAY_ACK_HAND(v, c) -> \
		printf("  %c begins a round by set %d (slot %d), which the other hand of voter %d acknowledges and promises %d ticks\n", S(s), c, r, v, P); \
		on[r] = 1; age[r] = 0; rcfg[r] = c; \
		acks[r] = 1 << v; hpr[v] = P; COUNT_NOW(s, r) }
#else
#define HAND_ENDS(v)
#define HAND_CLOCK(v) skip
#define HAND_BURIED(v) skip
#define APPENDED(v) young[v] = P
#define BEGIN_HAND(s, r, c, v)
#define SURE(v) 1
#define TAKEN_BACK(v) 1
#define TAKEN_BACK_END(v) 1
#define OTHER_HANDS(s)
#endif
