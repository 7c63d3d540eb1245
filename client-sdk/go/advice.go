package keybroker

import (
	"fmt"
	"time"

	pb "github.com/keybroker/keybroker/client-sdk/go/internal/keybrokerpb"
)

// Action is what the caller should do next, by its name in the contract.
type Action string

const (
	// Done means that there is nothing to do: the request succeeded or was never sent.
	Done Action = "DONE"
	// RetryOtherKey means to acquire again now, excluding the key that failed.
	RetryOtherKey Action = "RETRY_OTHER_KEY"
	// RetryAfter means to acquire again after Advice.RetryAfter, or after a back-off of one's own if that is 0.
	RetryAfter Action = "RETRY_AFTER"
	// DoNotRetry means that the request itself is at fault.
	DoNotRetry Action = "DO_NOT_RETRY"
)

// Settled is what a report did to its lease, by its name in the contract.
type Settled string

const (
	// SettledNow means that this report settled the lease.
	SettledNow Settled = "SETTLED"
	// SettledLate means that the lease had expired; tokens and lessons were still taken.
	SettledLate Settled = "SETTLED_LATE"
	// AlreadySettled means that an earlier report settled it.
	AlreadySettled Settled = "ALREADY_SETTLED"
	// UnknownLease means that no such lease is known.
	UnknownLease Settled = "UNKNOWN_LEASE"
)

// Advice is the broker's answer to a report.
type Advice struct {
	// Action is what to do next.
	Action Action
	// RetryAfter is how long to wait first, with the action RETRY_AFTER; 0 leaves the back-off to the caller.
	RetryAfter time.Duration
	// Once allows one more try and no third, whatever comes of it.
	Once bool
	// Signal is what the broker read in the outcome, by its name in the contract, such as SIGNAL_OK.
	Signal string
	// Message is one sentence for people. It holds no key.
	Message string
	// Settled is what the report did to its lease.
	Settled Settled
}

// Retryable is whether the request may be sent again, with a new lease.
func (a Advice) Retryable() bool { return a.Action == RetryOtherKey || a.Action == RetryAfter }

// adviceOf reads an answer. An action of a newer contract means nothing here: the safe reading is not to send again.
func adviceOf(result *pb.ReportResult) Advice {
	given := result.GetAdvice()
	advice := Advice{
		Action:  DoNotRetry,
		Once:    given.GetOnce(),
		Signal:  given.GetSignal().String(),
		Message: given.GetMessage(),
		Settled: Settled(result.GetState().String()),
	}
	switch given.GetAction() {
	case pb.Advice_DONE, pb.Advice_RETRY_OTHER_KEY:
		advice.Action = Action(given.GetAction().String())
	case pb.Advice_RETRY_AFTER:
		advice.Action = RetryAfter
		advice.RetryAfter = max(given.GetRetryAfter().AsDuration(), 0)
	}
	return advice
}

// String is for logs.
func (a Advice) String() string {
	if a.RetryAfter > 0 {
		return fmt.Sprintf("%s(%v): %s", a.Action, a.RetryAfter, a.Message)
	}
	return fmt.Sprintf("%s: %s", a.Action, a.Message)
}
