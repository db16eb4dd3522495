#!/bin/sh
# Explores lease.pml (with hand.pml) with spin: the whole protocol must have no error in a complete search,
# and each rule left out must have one, whose shortest schedule is kept. `make model` calls it.
#
#   run.sh            everything
#   run.sh RULE       one rule left out; prints its shortest schedule
set -eu

here=$(cd "$(dirname "$0")" && pwd)
memory_mb=${MODEL_MEMORY_MB:-3800} # a search that needs more is incomplete, and so fails
depth=${MODEL_DEPTH:-4000000}      # likewise
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# name | what is explored | parameters
whole='one-session|1 session, every step, a restart, a change 3 to 2|-DNS=1 -DCHANGES=1 -DRESTARTS=1
long-lease|the same with a lease of 4 ticks, no change|-DNS=1 -DL=4 -DCHANGES=0 -DRESTARTS=1
two-changes|1 session, a restart, changes 3 to 2 to 1|-DNS=1 -DCHANGES=2 -DRESTARTS=1 -DBURY -DEAGER
two-rounds|1 session with 2 open rounds, a restart, a change|-DNS=1 -DNR=2 -DCHANGES=1 -DRESTARTS=1 -DBURY -DEAGER
grow|1 session, a restart, a change 3 to 4|-DNS=1 -DCHAIN=REPLACE -DCHANGES=1 -DRESTARTS=1 -DBURY -DEAGER
replace|1 session, changes 3 to 4 to other 3|-DNS=1 -DCHAIN=REPLACE -DCHANGES=2 -DRESTARTS=0 -DBURY -DEAGER
two-sessions|2 sessions, a restart, a change 3 to 2|-DNS=2 -DCHANGES=1 -DRESTARTS=1 -DBURY -DEAGER
hands|1 session, promises in two hands, every step, a restart|-DHAND -DNS=1 -DCHANGES=0 -DRESTARTS=1
hands-one-change|the same with a change 3 to 2|-DHAND -DNS=1 -DCHANGES=1 -DRESTARTS=1 -DBURY -DEAGER
hands-two-changes|the same with changes 3 to 2 to 1, no restart|-DHAND -DNS=1 -DCHANGES=2 -DRESTARTS=0 -DBURY -DEAGER'

one='-DNS=1 -DCHANGES=0 -DRESTARTS=0'
restart='-DNS=1 -DCHANGES=0 -DRESTARTS=1'
changes='-DNS=1 -DCHANGES=2 -DRESTARTS=0 -DEAGER'
# rule | parameters that suffice to break the protocol without it
without="first_promise|$one
request_time|$one
send_time|$one
majority|$one
revocation|$one
drift_margin|$one
sender_ack|$one
sender_end|$one
silence_ack|$restart
silence_endorse|$restart
continuity|$restart
question_age|$restart
config_check|$changes
config_age|$changes
config_endorse|$changes
config_leader|$changes
revocation@two-sessions|-DNS=2 -DCHANGES=0 -DRESTARTS=0 -DBURY -DEAGER
silence_ack@two-sessions|-DNS=2 -DCHANGES=0 -DRESTARTS=1 -DBURY -DEAGER
hand_recall|-DHAND $one -DBURY -DEAGER
hand_goes_on|-DHAND $one -DBURY -DEAGER
hand_until|-DHAND $one -DBURY -DEAGER
hand_process|-DHAND $restart -DBURY -DEAGER
hand_voters|-DHAND $changes -DBURY"

# build NAME CFLAGS PARAMETERS...: makes $work/NAME/pan
build() {
	dir=$work/$1 cflags=$2
	shift 2
	mkdir "$dir"
	cp "$here/lease.pml" "$here/hand.pml" "$dir"
	(cd "$dir" && spin -a "$@" lease.pml >spin.out 2>&1) || { cat "$dir/spin.out"; exit 1; }
	(cd "$dir" && cc -O2 -w -DSAFETY -DNOREDUCE "-DMEMLIM=$memory_mb" $cflags -o pan pan.c)
}

states() { sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$1"; }
field() { printf '%-28s %-48s %9s %4s s  %s\n' "$@"; }

# explore NAME TEXT PARAMETERS...
explore() {
	name=$1 text=$2
	shift 2
	build "$name" "" "$@"
	begin=$(date +%s)
	(cd "$work/$name" && ./pan -m"$depth" >pan.out 2>&1) || true
	out=$work/$name/pan.out
	verdict="no error, complete"
	grep -q 'errors: 0$' "$out" || verdict="ERROR"
	# What a truncated search says: its depth or its memory ran out, or it was not finished.
	if grep -qE 'max search depth too small|reached -DMEMLIM|out of memory|Search not completed' "$out"; then
		verdict="INCOMPLETE"
	fi
	field "$name" "$text" "$(states "$out")" "$(($(date +%s) - begin))" "$verdict"
	case $verdict in
	"no error, complete") ;;
	*) tail -n 20 "$out"; failed=1 ;;
	esac
}

# schedule RULE: the steps of the counter-example, from the trail that its search has left
schedule() {
	# shellcheck disable=SC2046 # the parameters are words
	(cd "$work/no-$1" && spin -t $(cat parameters) "-DNO_RULE_${1%@*}" lease.pml >replay.out 2>&1 || true
		sed '/^spin: /,$d; s/^ *tick/tick/; s/^   */  /' replay.out)
}

# break_rule RULE PARAMETERS...: breadth first, so that the first schedule found is a shortest
break_rule() {
	rule=$1
	shift
	build "no-$rule" -DBFS "$@" "-DNO_RULE_${rule%@*}"
	echo "$@" >"$work/no-$rule/parameters"
	begin=$(date +%s)
	(cd "$work/no-$rule" && ./pan >pan.out 2>&1) || true
	out=$work/no-$rule/pan.out
	verdict="NOT FOUND"
	grep -q 'assertion violated' "$out" && verdict="two owners after $(schedule "$rule" | wc -l) steps"
	field "no $rule" "" "$(states "$out")" "$(($(date +%s) - begin))" "$verdict"
	[ "$verdict" != "NOT FOUND" ] || { tail -n 20 "$out"; failed=1; }
}

failed=0
IFS='
'
for line in $without; do
	rule=${line%%|*}
	[ $# -eq 0 ] || [ "$rule" = "$1" ] || continue
	known=1
	oldifs=$IFS IFS=' '
	break_rule "$rule" ${line#*|}
	IFS=$oldifs
	if [ $# -gt 0 ]; then
		schedule "$rule"
	elif [ "$failed" = 0 ] && ! schedule "$rule" | diff -u "$here/schedules/$rule.txt" - ; then
		echo "the schedule differs from schedules/$rule.txt: run.sh $rule shows it"
		failed=1
	fi
done
if [ $# -gt 0 ]; then
	[ -n "${known-}" ] || { echo "no rule $1; there are:"; echo "$without" | sed 's/|.*//'; exit 2; }
	exit "$failed"
fi
for line in $whole; do
	rest=${line#*|}
	oldifs=$IFS IFS=' '
	explore "${line%%|*}" "${rest%%|*}" ${rest#*|}
	IFS=$oldifs
done
exit "$failed"
