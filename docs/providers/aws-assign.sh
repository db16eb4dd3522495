#!/bin/sh
# Provider exec for AWS, one subnet: the HAVIP is a secondary private address of the owner's interface.
# It does with the AWS CLI what `provider: {kind: aws}` does without. Needs aws, curl and jq.
set -eu
eval "$(jq -r '@sh "call=\(.call) ip=\(.ip) mac=\(.mac)"')"
imds=${IMDS:-http://169.254.169.254}
token=$(curl -fsS -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$imds/latest/api/token")
meta() { curl -fsS -m 2 -H "X-aws-ec2-metadata-token: $token" "$imds/latest/meta-data/$1"; }
case "$call" in
claim)
	eni=$(meta "network/interfaces/macs/$mac/interface-id")
	aws ec2 assign-private-ip-addresses --network-interface-id "$eni" --private-ip-addresses "$ip" --allow-reassignment >&2
	echo '{}'
	;;
describe)
	if meta "network/interfaces/macs/$mac/local-ipv4s" | grep -Fxq "$ip"; then
		echo '{"here":true}'
	else
		echo '{"here":false}'
	fi
	;;
test) meta instance-id >&2 && echo '{}' ;;
*) echo '{}' ;; # release: the next owner takes it
esac
