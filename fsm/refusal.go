package fsm

import "fmt"

// Code is a stable name of a reason to refuse. The cloud's own code where it has one.
type Code string

const (
	CodeParameter      Code = "InvalidParameterValue"
	CodeMalformed      Code = "InvalidParameterValue.Malformed"
	CodeRange          Code = "InvalidParameterValue.Range"
	CodeReserved       Code = "InvalidParameterValue.Reserved"
	CodeTooLong        Code = "InvalidParameterValue.TooLong"
	CodeDuplicate      Code = "InvalidParameterValue.Duplicate"
	CodeMissing        Code = "MissingParameter"
	CodeInUse          Code = "ResourceInUse"
	CodeInsufficient   Code = "ResourceInsufficient"
	CodeNotFound       Code = "ResourceNotFound"
	CodeLimit          Code = "LimitExceeded"
	CodeUnsupported    Code = "UnsupportedOperation"
	CodeSubnetNotExist Code = "UnsupportedOperation.SubnetNotExists"
	CodeKeyMismatch    Code = "UnsupportedOperation.IdempotentParameterMismatch"
	CodeRangeDenied    Code = "RangeDenied"
	CodeStale          Code = "FencedOff" // an epoch or a session is not the present one
	CodeTokenRefused   Code = "TokenRefused"
	CodeNotReady       Code = "NotReady"
	CodeBindEIP        Code = "UnsupportedOperation.BindEIP"
	CodeUnbindEIP      Code = "UnsupportedOperation.UnbindEIP"
	CodeMismatch       Code = "InvalidParameterValue.ParameterMismatch"
	CodeAssociated     Code = "InvalidParameterValue.DuplicatedHaVipAssociations"
	// CodeDenied: the caller has not the right.
	CodeDenied Code = "UnauthorizedOperation"
	// CodeLevel: some node cannot read this command yet.
	CodeLevel Code = "UnsupportedOperation.UpgradeFirst"
	// CodeConflict: the configuration has changed since it was read.
	CodeConflict Code = "UnsupportedOperation.RevisionConflict"
)

// Refusal is a command that was understood and not done: a result, never a fault.
type Refusal struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (r *Refusal) Error() string { return r.Message }

// Refuse makes a Refusal. The message names the value and the way out.
func Refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}
