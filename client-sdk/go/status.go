package keybroker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/keybroker/keybroker/client-sdk/go/internal/keybrokerpb"
)

// errorDomain is the domain of the contract's ErrorInfo.
const errorDomain = "keybroker.v1"

// asked is what is known of a call that failed, beside its status.
type asked struct {
	address string
	what    string
	within  time.Duration
	// sent is whether the request went out, so that the broker may have seen it.
	sent bool
}

// readStatus makes an error of this package from a gRPC error. The reason of the contract decides; the code only
// where no reason was given, as by a proxy or by the network.
func readStatus(err error, asked asked) error {
	state, ok := status.FromError(err)
	if !ok {
		state = status.FromContextError(err)
	}
	details := readDetails(state)
	message := state.Message()
	switch reason := details.reason; reason {
	case pb.ErrorReason_QUOTA_EXHAUSTED, pb.ErrorReason_COOLING_DOWN:
		return details.refused(message)
	case pb.ErrorReason_REQUEST_EXCEEDS_LIMIT:
		return &NeverPossibleError{message}
	case pb.ErrorReason_NO_USABLE_KEY:
		return &NoUsableKeyError{message}
	case pb.ErrorReason_INVALID_FIELD:
		return &InvalidArgumentError{details.fields, message}
	case pb.ErrorReason_UNKNOWN_POOL:
		return &UnknownPoolError{message}
	case pb.ErrorReason_UNKNOWN_LEASE_ID:
		return &UnknownLeaseError{message}
	case pb.ErrorReason_LEASE_ENDED:
		return &LeaseEndedError{message}
	case pb.ErrorReason_DEADLINE_PASSED:
		return &DeadlineExceededError{Address: asked.address, Within: asked.within, What: asked.what}
	case pb.ErrorReason_NOT_AUTHENTICATED:
		return &UnauthenticatedError{asked.address, message}
	case pb.ErrorReason_NOT_PERMITTED:
		return &NotPermittedError{asked.address, message}
	case pb.ErrorReason_LEDGER_UNAVAILABLE, pb.ErrorReason_LEDGER_CHANGED,
		pb.ErrorReason_SHUTTING_DOWN, pb.ErrorReason_OVERLOADED:
		return &UnavailableError{Address: asked.address, Reason: reason.String(), RetryAfter: details.retryAfter, Message: message}
	}
	unavailable := &UnavailableError{Address: asked.address, RetryAfter: details.retryAfter, Message: message}
	switch state.Code() {
	case codes.ResourceExhausted:
		// Without a RetryInfo this is no refusal of the contract but a server or a proxy that is too busy.
		if details.hasRetry {
			return details.refused(message)
		}
		return unavailable
	case codes.Unavailable:
		unavailable.AnswerLost = asked.sent
		return unavailable
	case codes.DeadlineExceeded:
		return &DeadlineExceededError{Address: asked.address, Within: asked.within, What: asked.what}
	case codes.Canceled:
		return fmt.Errorf("keybroker: the call was called off: %w", context.Canceled)
	case codes.InvalidArgument:
		return &InvalidArgumentError{details.fields, message}
	case codes.Unauthenticated:
		return &UnauthenticatedError{asked.address, message}
	case codes.PermissionDenied:
		return &NotPermittedError{asked.address, message}
	}
	return &OtherError{state.Code(), message}
}

type details struct {
	reason     pb.ErrorReason
	metadata   map[string]string
	retryAfter time.Duration
	hasRetry   bool
	quota      []QuotaViolation
	fields     []FieldViolation
}

func readDetails(state *status.Status) details {
	var read details
	for _, detail := range state.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				read.reason = pb.ErrorReason(pb.ErrorReason_value[detail.GetReason()])
				read.metadata = detail.GetMetadata()
			}
		case *errdetails.RetryInfo:
			read.hasRetry = detail.GetRetryDelay() != nil
			read.retryAfter = max(detail.GetRetryDelay().AsDuration(), 0)
		case *errdetails.QuotaFailure:
			for _, violation := range detail.GetViolations() {
				read.quota = append(read.quota, QuotaViolation{violation.GetSubject(), violation.GetDescription()})
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				read.fields = append(read.fields, FieldViolation{violation.GetField(), violation.GetDescription()})
			}
		}
	}
	return read
}

func (d details) refused(message string) *RefusedError {
	if !d.hasRetry {
		// The contract promises one; without it a second is long enough not to hammer.
		d.retryAfter = time.Second
	}
	refused := &RefusedError{RetryAfter: d.retryAfter, RetryAt: time.Now().Add(d.retryAfter), Quota: d.quota, Message: message}
	if d.reason != pb.ErrorReason_ERROR_REASON_UNSPECIFIED {
		refused.Reason = d.reason.String()
	}
	refused.QueueLength, _ = strconv.Atoi(d.metadata["queue_length"])
	estimate, _ := strconv.ParseInt(d.metadata["estimated_wait_ms"], 10, 64)
	refused.EstimatedWait = time.Duration(estimate) * time.Millisecond
	return refused
}

// nothingHandedOut is whether an Acquire that failed so certainly granted nothing, so that it may be asked again.
func nothingHandedOut(err error) bool {
	unavailable, ok := errors.AsType[*UnavailableError](err)
	return ok && !unavailable.AnswerLost
}

// asError gives the error of this package that err holds, if any.
func asError(err error) (Error, bool) { return errors.AsType[Error](err) }

// contextError says that the caller's own context ended while something was waited for.
func contextError(ctx context.Context, what, address string, since time.Time) error {
	err := ctx.Err()
	if errors.Is(err, context.DeadlineExceeded) {
		return &DeadlineExceededError{Address: address, Within: time.Since(since), What: what, err: err}
	}
	return fmt.Errorf("keybroker: %s was no longer waited for: %w", what, err)
}
