// Package lease is the exclusion protocol as pure data structures: the [Holder] keeps
// the lease of one session, the [Acceptor] is what one voter has promised, the [Closer]
// is the leader's count of endorsements. Together they guarantee that a session which
// the log closes has already ended for its holder, on the holder's own clock. The rules
// are those of DESIGN.md in this folder and are cited by number: "rule 3 (continuity)".
//
// Nothing here reads a clock, starts a goroutine, takes a lock, sends a message or draws
// a random number. Every method takes now, returns what to do, and is a deterministic
// function of the calls before it. Input from the network never panics: it is refused
// with a reason. Losing, repeating and reordering messages is harmless.
//
// # Duties of the caller
//
// The proof needs these, and the package cannot check them.
//
//  1. Serialise the calls of one structure.
//  2. For each message: receive it, then read the voter set (the latest one in the Raft
//     log, committed or not) and what else the log has, then read CLOCK_BOOTTIME, pass the
//     set to UseVoterSet, then call. A clock read before the message arrived would break
//     rule 3; one read before the log was, rule 4 (a set that comes to be known between the
//     two would count as older than it is) and rule 1 (the same of an opening). Set
//     [VoterSet.Index].
//  3. Start an acceptor only when the process that served this voter before is dead.
//  4. Feed Opened, Closed and SetLongest in log order; after installing a snapshot call
//     Closed for each of [Acceptor.Sessions] that the snapshot does not have.
//  5. Store the holder's deadline into the fence whenever it moves; clean the own side
//     (fence shut, addresses removed) before asking for a new session (rule 1).
//  6. Pass to NewHolder the instant of the *first* sending of the request that was
//     committed, read before it was sent.
//  7. A Closer lives for one Raft term of one leader. Ask with the longest length in
//     force, once the leader's applied state has reached its latest voter set. Commit a
//     verdict only in the term of its question: the entry carries that term, and Apply
//     refuses it in an entry of another term.
//  8. Draw a BootID at random for each process of an acceptor. Send each renewal to its voter
//     with the boot id that is known of it (Boots), and on a Correction of the newest round
//     send that round again.
//  9. Give each message only in the name of the node that the channel proves to have sent it,
//     and only while the latest configuration lets that node say it.
//  10. While a change of length is under way, holders use the shorter of the two lengths,
//     acceptors and questions the longer. End it with an entry of its own, proposed when
//     every node has applied the change and the longer promise has run out since:
//     [SettleAfter].
//  11. Ask only when [Inquiry.Due] says so: a question uses voters up.
package lease
