// Package aws claims HAVIPs in Amazon's VPC, where no announcement moves an address: the owner has the
// secondary private address assigned to its network interface (EC2 AssignPrivateIpAddresses with
// AllowReassignment), and the instance's metadata service says when it has come (local-ipv4s). A
// public address that is bound to it moves along. One subnet is in one zone, and so is the HAVIP.
//
// Requests are signed by smithy's aws-http-auth alone (Signature Version 4): the EC2 client of the SDK
// is many times as large as what is used here. Credentials are those of the instance's role, by
// IMDSv2, or of the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN).
//
// Sources: EC2 API reference, AssignPrivateIpAddresses, DescribeNetworkInterfaces and "Error codes";
// EC2 user guide, "Use IMDS".
package aws
