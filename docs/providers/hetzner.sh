#!/bin/sh
# Provider exec for Hetzner's dedicated servers: the HAVIP is a failover IP, which the Robot routes to a server.
# Needs curl and jq. A file with `machine robot-ws.your-server.de login USER password PASSWORD` that the program's
# user alone may read: its path is the first argument. The second is this server's main address.
set -eu
eval "$(jq -r '@sh "call=\(.call) ip=\(.ip) mac=\(.mac)"')"
robot=${ROBOT:-https://robot-ws.your-server.de}
netrc=${1:?name the netrc file}
main=${2:?name the main address of this server}
ask() { curl -fsS -m 9 --netrc-file "$netrc" "$@"; }
active() { ask "$robot/failover/$ip" | jq -r .failover.active_server_ip; }
case "$call" in
claim)
	# The Robot refuses what is so already, and takes 40 to 60 s for the rest.
	[ "$(active)" = "$main" ] || ask -X POST -d "active_server_ip=$main" "$robot/failover/$ip" >&2
	echo '{}'
	;;
describe)
	at=$(active)
	jq -cn --arg where "$at" --arg main "$main" '{here: ($where == $main), where: $where}'
	;;
*) echo '{}' ;; # release: the next owner takes it
esac
