#!/bin/sh
# Provider exec for AWS across zones: the HAVIP is an address outside the VPC's range, and the route to it leads
# to the owner's interface. Source/destination check is off on the interfaces. Needs aws, curl and jq.
# Argument: the route tables, such as rtb-1,rtb-2 (args: [rtb-1,rtb-2] in the agent's configuration).
set -eu
eval "$(jq -r '@sh "call=\(.call) ip=\(.ip) mac=\(.mac)"')"
imds=${IMDS:-http://169.254.169.254}
tables=$(printf '%s' "${1:?name the route tables}" | tr , ' ')
token=$(curl -fsS -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$imds/latest/api/token")
eni() { curl -fsS -m 2 -H "X-aws-ec2-metadata-token: $token" "$imds/latest/meta-data/network/interfaces/macs/$mac/interface-id"; }
case "$call" in
claim)
	mine=$(eni)
	for table in $tables; do
		aws ec2 replace-route --route-table-id "$table" --destination-cidr-block "$ip/32" --network-interface-id "$mine" >&2
	done
	echo '{}'
	;;
describe)
	mine=$(eni)
	for table in $tables; do
		at=$(aws ec2 describe-route-tables --route-table-ids "$table" \
			--query "RouteTables[].Routes[?DestinationCidrBlock=='$ip/32'].NetworkInterfaceId[]" --output text)
		if [ "$at" != "$mine" ]; then
			jq -cn --arg where "$table: ${at:-no route}" '{here: false, where: $where}'
			exit 0
		fi
	done
	echo '{"here":true}'
	;;
*) echo '{}' ;;
esac
