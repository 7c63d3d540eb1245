package keybroker

import (
	"context"
	"errors"
	"slices"
	"time"
)

// shortestWait keeps a refusal whose time has come already from being answered at once, or the two would spin.
const shortestWait = 5 * time.Millisecond

var (
	// askBackoff is between Acquires that reached no broker.
	askBackoff = backoff{first: 200 * time.Millisecond, longest: 5 * time.Second}
	// sendBackoff is between requests, where the broker advises no time of its own.
	sendBackoff = backoff{first: 500 * time.Millisecond, longest: 30 * time.Second}
)

// tries is what one call of the caller's may do, and what it has gone through so far.
type tries struct {
	client   *Client
	request  Request
	deadline time.Time
	attempts int
	// patient is whether brokers that are away are waited for until the deadline: not where something else would serve.
	patient bool
	// sent counts requests.
	sent int
	// late counts leases that came too late to be used.
	late int
	// unreachable counts Acquires that failed without a refusal.
	unreachable int
	// lastTry is whether the broker allowed only one more.
	lastTry bool
	// last is the last failure of a request, which says more than a refusal that follows it.
	last error
}

func newTries(client *Client, request Request, deadline time.Time, attempts int, patient bool) *tries {
	request.ExcludeKeys = slices.Clone(request.ExcludeKeys)
	return &tries{client: client, request: request, deadline: deadline, attempts: attempts, patient: patient}
}

func (t *tries) lastOr(err error) error {
	if t.last != nil {
		return t.last
	}
	return err
}

func (t *tries) remaining(ctx context.Context) time.Duration {
	remaining := time.Until(t.deadline)
	if deadline, ok := ctx.Deadline(); ok {
		remaining = min(remaining, time.Until(deadline))
	}
	return max(remaining, 0)
}

// lease takes one, waiting after refusals for as long as the caller allows.
func (t *tries) lease(ctx context.Context) (*Lease, error) {
	for {
		request := t.request
		switch {
		case request.Wait == 0:
			request.Wait = min(t.remaining(ctx), mostWait)
		case request.Wait < 0:
			request.Wait = 0
		default:
			request.Wait = min(request.Wait, t.remaining(ctx))
		}
		lease, err := t.client.Acquire(ctx, request)
		if err == nil || ctx.Err() != nil {
			return lease, err
		}
		var wait time.Duration
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			// Exact: before it nothing is to be had, and after it somebody else is served first.
			wait = max(refused.RetryAfter, shortestWait)
			if t.request.Wait < 0 {
				return nil, err
			}
		} else if unavailable, ok := errors.AsType[*UnavailableError](err); ok && nothingHandedOut(err) && (t.patient || t.unreachable+1 < t.attempts) {
			t.unreachable++
			if wait = unavailable.RetryAfter; wait == 0 {
				wait = askBackoff.wait(t.unreachable - 1)
			}
		} else {
			return nil, err
		}
		if wait >= t.remaining(ctx) {
			return nil, err
		}
		if pause(ctx, wait) != nil {
			return nil, contextError(ctx, "a lease", t.client.rpc.addresses(), time.Now())
		}
	}
}

// missed gives back a lease that came too late to be used; an error if that happened too often.
func (t *tries) missed(lease *Lease, passed error) error {
	lease.submit(notSent())
	if t.late++; t.late < t.attempts && time.Now().Before(t.deadline) {
		return nil
	}
	return t.lastOr(passed)
}

// obey waits for the advice on a failed request and does what it says: nil to try again, or failure.
func (t *tries) obey(ctx context.Context, lease *Lease, reported *item, failure error) error {
	if reported == nil {
		return failure
	}
	// Without advice there is nothing to obey, so the failure is final; it stays reported.
	advice, err := lease.state.await(ctx, reported)
	if err != nil || t.sent >= t.attempts || t.lastTry {
		return failure
	}
	t.lastTry = advice.Once
	var wait time.Duration
	switch {
	case advice.Action == RetryOtherKey:
		t.request.ExcludeKeys = append(t.request.ExcludeKeys, lease.KeyID())
	case advice.Action == RetryAfter && advice.RetryAfter > 0:
		wait = spread(advice.RetryAfter)
	case advice.Action == RetryAfter:
		wait = sendBackoff.wait(t.sent - 1)
	default:
		return failure
	}
	if wait >= t.remaining(ctx) || pause(ctx, wait) != nil {
		return failure
	}
	t.last = failure
	return nil
}
