// Package sim plays whole clusters in virtual time: the real fsm, membership, failover and
// lease code of 3 to 7 nodes, on a network, disks, clocks and kernels made here, all of
// which fail as a schedule says. One seed gives one schedule; a schedule is a text that
// can be kept, shrunk and played again. DESIGN.md says what is modelled and what is not.
package sim
