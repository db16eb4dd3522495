package fakecloud

// Codes are the refusals that the vendor's pages name for each action (Tencent Cloud API reference, VPC 2017-03-12, error codes). Those that
// a caller can bring about are simulated (TestDocumentedCodes); of the others no more is known than the code, and
// Fault.Refuse has an action give it.
var Codes = map[string][]string{
	"CreateHaVip": {
		"InvalidParameter", "InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.InvalidBusiness", "InvalidParameterValue.Malformed",
		"InvalidParameterValue.Range", "InvalidParameterValue.Reserved", "InvalidParameterValue.TooLong", "LimitExceeded", "ResourceInUse", "ResourceInsufficient",
		"ResourceNotFound", "UnsupportedOperation.SubnetNotExists",
	},
	"DeleteHaVip": {"InvalidParameter", "InvalidParameterValue", "InvalidParameterValue.Malformed", "ResourceNotFound", "UnsupportedOperation"},
	"ModifyHaVipAttribute": {
		"InvalidParameter", "InvalidParameterValue", "InvalidParameterValue.Malformed", "InvalidParameterValue.TooLong", "ResourceNotFound", "UnsupportedOperation",
	},
	"DescribeHaVips": {
		"InternalError.ModuleError", "InvalidParameter.Coexist", "InvalidParameter.FilterInvalidKey", "InvalidParameterValue.LimitExceeded", "InvalidParameterValue.Malformed",
		"InvalidParameterValue.Range", "InvalidParameterValue.TooLong",
	},
	"AssociateHaVipInstance": {
		"InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.DuplicatedHaVipAssociations", "InvalidParameterValue.Malformed",
		"InvalidParameterValue.ParameterMismatch", "LimitExceeded", "MissingParameter", "ResourceNotFound",
	},
	"DisassociateHaVipInstance": {
		"InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Malformed", "InvalidParameterValue.ParameterMismatch", "LimitExceeded",
		"MissingParameter", "ResourceNotFound",
	},
	"HaVipAssociateAddressIp": {
		"InternalError.ModuleError", "InvalidParameterValue.Malformed", "ResourceNotFound", "UnsupportedOperation", "UnsupportedOperation.BindEIP",
		"UnsupportedOperation.MutexOperationTaskRunning", "UnsupportedOperation.UnsupportedBindLocalZoneEIP",
	},
	"HaVipDisassociateAddressIp": {
		"InvalidParameterValue.Malformed", "ResourceNotFound", "UnsupportedOperation", "UnsupportedOperation.MutexOperationTaskRunning", "UnsupportedOperation.UnbindEIP",
	},
}
