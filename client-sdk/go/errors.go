package keybroker

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// Kind names what sort of error this is, by the contract that the SDKs of all languages share.
type Kind string

// The kinds of errors.
const (
	KindRefused          Kind = "refused"
	KindNeverPossible    Kind = "never_possible"
	KindNoUsableKey      Kind = "no_usable_key"
	KindUnknownPool      Kind = "unknown_pool"
	KindUnknownLease     Kind = "unknown_lease"
	KindLeaseEnded       Kind = "lease_ended"
	KindInvalidArgument  Kind = "invalid_argument"
	KindUnavailable      Kind = "unavailable"
	KindDeadlineExceeded Kind = "deadline_exceeded"
	KindUnauthenticated  Kind = "unauthenticated"
	KindNotPermitted     Kind = "not_permitted"
	KindReportLost       Kind = "report_lost"
	KindSendWindowPassed Kind = "send_window_passed"
	KindTransport        Kind = "transport"
	KindOther            Kind = "other"
)

// Error is implemented by every error type of this package. A call that was called off by its context gives an
// error that wraps [context.Canceled] instead, and is no Error.
type Error interface {
	error
	// Kind is what sort of error it is.
	Kind() Kind
	// Retryable is whether the same call can succeed later, with nothing changed.
	Retryable() bool
}

// For [errors.Is]: each matches all errors of one kind. With [errors.As] the types below tell more.
var (
	ErrRefused          error = kindError(KindRefused)
	ErrNeverPossible    error = kindError(KindNeverPossible)
	ErrNoUsableKey      error = kindError(KindNoUsableKey)
	ErrUnknownPool      error = kindError(KindUnknownPool)
	ErrUnknownLease     error = kindError(KindUnknownLease)
	ErrLeaseEnded       error = kindError(KindLeaseEnded)
	ErrInvalidArgument  error = kindError(KindInvalidArgument)
	ErrUnavailable      error = kindError(KindUnavailable)
	ErrDeadlineExceeded error = kindError(KindDeadlineExceeded)
	ErrUnauthenticated  error = kindError(KindUnauthenticated)
	ErrNotPermitted     error = kindError(KindNotPermitted)
	ErrReportLost       error = kindError(KindReportLost)
	ErrSendWindowPassed error = kindError(KindSendWindowPassed)
	ErrTransport        error = kindError(KindTransport)
)

type kindError Kind

func (k kindError) Error() string { return "keybroker: " + strings.ReplaceAll(string(k), "_", " ") }

func isKind(err Error, target error) bool { return kindError(err.Kind()) == target }

// RefusedError says that no lease can be given now, and when one can.
type RefusedError struct {
	// Reason is the contract's name for what stands in the way, such as QUOTA_EXHAUSTED.
	Reason string
	// RetryAfter is the exact time after which a lease can be given, from the arrival of this answer.
	RetryAfter time.Duration
	// RetryAt is the same as an instant.
	RetryAt time.Time
	// Quota is what is spent.
	Quota []QuotaViolation
	// EstimatedWait is how long a request like this one would queue at the rate of late; 0 if not known.
	EstimatedWait time.Duration
	// QueueLength is how many requests wait in its queue.
	QueueLength int
	// Message is in the broker's words.
	Message string
}

// QuotaViolation is a limit that is spent.
type QuotaViolation struct {
	// Subject is whose limit.
	Subject string
	// Description is which limit, and how much of it is used.
	Description string
}

// NeverPossibleError says that the request is larger than a limit.
type NeverPossibleError struct{ Message string }

// NoUsableKeyError says that every key that could serve is disabled, or that the constraints leave none.
type NoUsableKeyError struct{ Message string }

// UnknownPoolError says that the pool is not configured.
type UnknownPoolError struct{ Message string }

// UnknownLeaseError says that the lease was never granted by this broker, or was forgotten after its time.
type UnknownLeaseError struct{ Message string }

// LeaseEndedError says that the lease was reported or has expired.
type LeaseEndedError struct{ Message string }

// InvalidArgumentError says which fields are missing or out of range.
type InvalidArgumentError struct {
	Violations []FieldViolation
	Message    string
}

// FieldViolation is a field that must be corrected.
type FieldViolation struct {
	// Field is its name in the contract, or the name of an option of this package.
	Field string
	// Description is what is wrong and how to correct it.
	Description string
}

// UnavailableError says that no broker can be reached, or that it cannot serve at the moment.
type UnavailableError struct {
	// Address is the broker's, or all of them.
	Address string
	// Reason is the contract's name for it; empty if the network failed before the broker could give one.
	Reason string
	// RetryAfter is the wait the broker asked for; 0 if none.
	RetryAfter time.Duration
	// AnswerLost is whether an Acquire may have granted a lease, which then stays charged until it expires.
	AnswerLost bool
	// Message is in the broker's words, or the network's.
	Message string
}

// DeadlineExceededError says that no answer came in time. It wraps the error of the context if the caller's own
// deadline passed.
type DeadlineExceededError struct {
	// Address is the broker's.
	Address string
	// Within is how long was waited.
	Within time.Duration
	// What was waited for.
	What string
	err  error
}

// UnauthenticatedError says that the broker does not accept this caller.
type UnauthenticatedError struct {
	Address string
	Message string
}

// NotPermittedError says that the broker knows this caller, and does not let it do this.
type NotPermittedError struct {
	Address string
	// Message is in the broker's words: they name the identity and what it may do.
	Message string
}

// ReportLostError says that a report could not be delivered and was given up.
type ReportLostError struct{ Message string }

// SendWindowPassedError says that a lease was held for too long before sending: report it with [Lease.NotSent],
// and acquire another.
type SendWindowPassedError struct{ LateBy time.Duration }

// UndeliveredError says that reports were not delivered in time; they are still being tried.
type UndeliveredError struct {
	Reports int
	err     error
}

// TransportError says that a request to Gemini failed on its way, or that its answer broke off.
type TransportError struct {
	// What happened, as it was reported.
	What TransportKind
	// Message tells more. It holds no key.
	Message string
	err     error
}

// OtherError is any other failure.
type OtherError struct {
	// Code is the gRPC code, or OK if the failure is local.
	Code    codes.Code
	Message string
}

func (e *RefusedError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "keybroker: no key is free, try again in %v or ask with a longer Wait: %s", e.RetryAfter, e.Message)
	for _, quota := range e.Quota {
		fmt.Fprintf(&text, "; %s: %s", quota.Subject, quota.Description)
	}
	return text.String()
}

func (e *NeverPossibleError) Error() string {
	return "keybroker: no key can ever serve this request as the limits are configured: make it smaller, or raise the limit (" + e.Message + ")"
}

func (e *NoUsableKeyError) Error() string {
	return "keybroker: no usable key: enable or add one, or loosen the request's constraints (" + e.Message + ")"
}

func (e *UnknownPoolError) Error() string {
	return "keybroker: unknown pool: set Request.Pool to one that the broker's configuration names (" + e.Message + ")"
}

func (e *UnknownLeaseError) Error() string {
	return "keybroker: unknown lease: acquire a new one (" + e.Message + ")"
}

func (e *LeaseEndedError) Error() string {
	return "keybroker: the lease has ended: acquire a new one (" + e.Message + ")"
}

func (e *InvalidArgumentError) Error() string {
	parts := make([]string, 0, len(e.Violations))
	for _, violation := range e.Violations {
		parts = append(parts, violation.Field+": "+violation.Description)
	}
	if len(parts) == 0 {
		parts = append(parts, e.Message)
	}
	return "keybroker: invalid request, correct it: " + strings.Join(parts, "; ")
}

func (e *UnavailableError) Error() string {
	why := e.Message
	if e.Reason != "" {
		why = e.Reason + ": " + why
	}
	return fmt.Sprintf("keybroker: the broker at %s is unavailable: check that address, that the broker runs there, and whether it wants TLS (%s)", e.Address, why)
}

func (e *DeadlineExceededError) Error() string {
	return fmt.Sprintf("keybroker: %s did not come within %v from the broker at %s: allow more time (the context's deadline, WithCallTimeout or Transport.Deadline), or check the broker",
		e.What, e.Within.Round(time.Millisecond), e.Address)
}

// Unwrap gives the error of the caller's context, if that is what ended.
func (e *DeadlineExceededError) Unwrap() error { return e.err }

func (e *UnauthenticatedError) Error() string {
	return fmt.Sprintf("keybroker: the broker at %s does not accept this caller: check WithToken and the client certificate (%s)", e.Address, e.Message)
}

func (e *NotPermittedError) Error() string {
	return fmt.Sprintf("keybroker: the broker at %s does not permit this: ask for what the identity may use, or have it allowed more (%s)", e.Address, e.Message)
}

func (e *ReportLostError) Error() string {
	return "keybroker: the report was given up, so the lease stays charged until it expires (" + e.Message + ")"
}

func (e *SendWindowPassedError) Error() string {
	return fmt.Sprintf("keybroker: the lease should have been used %v ago: report it with NotSent and acquire another", e.LateBy)
}

func (e *UndeliveredError) Error() string {
	return fmt.Sprintf("keybroker: %d reports are not delivered yet: check that the broker is reachable; leases without a report stay charged until they expire", e.Reports)
}

// Unwrap gives the error of the context whose end was waited for.
func (e *UndeliveredError) Unwrap() error { return e.err }

func (e *TransportError) Error() string {
	return fmt.Sprintf("keybroker: the request to Gemini failed (%s): %s", e.What, e.Message)
}

// Unwrap gives the error of the HTTP transport.
func (e *TransportError) Unwrap() error { return e.err }

func (e *OtherError) Error() string {
	if e.Code != codes.OK {
		return fmt.Sprintf("keybroker: gRPC %s: %s", e.Code, e.Message)
	}
	return "keybroker: " + e.Message
}

func (*RefusedError) Kind() Kind          { return KindRefused }
func (*NeverPossibleError) Kind() Kind    { return KindNeverPossible }
func (*NoUsableKeyError) Kind() Kind      { return KindNoUsableKey }
func (*UnknownPoolError) Kind() Kind      { return KindUnknownPool }
func (*UnknownLeaseError) Kind() Kind     { return KindUnknownLease }
func (*LeaseEndedError) Kind() Kind       { return KindLeaseEnded }
func (*InvalidArgumentError) Kind() Kind  { return KindInvalidArgument }
func (*UnavailableError) Kind() Kind      { return KindUnavailable }
func (*DeadlineExceededError) Kind() Kind { return KindDeadlineExceeded }
func (*UnauthenticatedError) Kind() Kind  { return KindUnauthenticated }
func (*NotPermittedError) Kind() Kind     { return KindNotPermitted }
func (*ReportLostError) Kind() Kind       { return KindReportLost }
func (*SendWindowPassedError) Kind() Kind { return KindSendWindowPassed }
func (*UndeliveredError) Kind() Kind      { return KindOther }
func (*TransportError) Kind() Kind        { return KindTransport }
func (*OtherError) Kind() Kind            { return KindOther }

func (*RefusedError) Retryable() bool          { return true }
func (*NeverPossibleError) Retryable() bool    { return false }
func (*NoUsableKeyError) Retryable() bool      { return false }
func (*UnknownPoolError) Retryable() bool      { return false }
func (*UnknownLeaseError) Retryable() bool     { return false }
func (*LeaseEndedError) Retryable() bool       { return false }
func (*InvalidArgumentError) Retryable() bool  { return false }
func (*UnavailableError) Retryable() bool      { return true }
func (*DeadlineExceededError) Retryable() bool { return true }
func (*UnauthenticatedError) Retryable() bool  { return false }
func (*NotPermittedError) Retryable() bool     { return false }
func (*ReportLostError) Retryable() bool       { return false }
func (*SendWindowPassedError) Retryable() bool { return true }
func (*UndeliveredError) Retryable() bool      { return true }
func (*TransportError) Retryable() bool        { return false }
func (*OtherError) Retryable() bool            { return false }

func (e *RefusedError) Is(target error) bool          { return isKind(e, target) }
func (e *NeverPossibleError) Is(target error) bool    { return isKind(e, target) }
func (e *NoUsableKeyError) Is(target error) bool      { return isKind(e, target) }
func (e *UnknownPoolError) Is(target error) bool      { return isKind(e, target) }
func (e *UnknownLeaseError) Is(target error) bool     { return isKind(e, target) }
func (e *LeaseEndedError) Is(target error) bool       { return isKind(e, target) }
func (e *InvalidArgumentError) Is(target error) bool  { return isKind(e, target) }
func (e *UnavailableError) Is(target error) bool      { return isKind(e, target) }
func (e *DeadlineExceededError) Is(target error) bool { return isKind(e, target) }
func (e *UnauthenticatedError) Is(target error) bool  { return isKind(e, target) }
func (e *NotPermittedError) Is(target error) bool     { return isKind(e, target) }
func (e *ReportLostError) Is(target error) bool       { return isKind(e, target) }
func (e *SendWindowPassedError) Is(target error) bool { return isKind(e, target) }
func (e *TransportError) Is(target error) bool        { return isKind(e, target) }

func invalid(field, description string) *InvalidArgumentError {
	return &InvalidArgumentError{Violations: []FieldViolation{{Field: field, Description: description}}}
}
