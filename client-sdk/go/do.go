package keybroker

import (
	"context"
	"time"
)

const (
	// defaultDeadline bounds how long a call looks for leases and tries again.
	defaultDeadline = 60 * time.Second
	// defaultAttempts is how many requests one call sends at most.
	defaultAttempts = 8
	// mostWait is the longest Wait of the contract.
	mostWait = 10 * time.Minute
)

// Do takes a lease and calls send with it, once or, while the broker advises to try again, up to 8 times within 60
// seconds (or the deadline of ctx, if that is sooner). It waits for a key where that helps, and renews the lease while
// send runs.
//
// send asks the lease for its key, sends its request and reports the lease. A nil error ends Do; an error is given to
// the caller unless the lease was reported and the broker advises another try. A lease that send did not report is
// closed.
//
// Errors: those of [Client.Acquire], or send's own.
func (c *Client) Do(ctx context.Context, request Request, send func(ctx context.Context, lease *Lease) error) error {
	tries := newTries(c, request, time.Now().Add(defaultDeadline), defaultAttempts, true)
	for {
		lease, err := tries.lease(ctx)
		if err != nil {
			return tries.lastOr(err)
		}
		again, err := c.doOnce(ctx, lease, send, tries)
		if !again {
			return err
		}
	}
}

func (c *Client) doOnce(ctx context.Context, lease *Lease, send func(context.Context, *Lease) error, tries *tries) (again bool, err error) {
	// Also after a panic in send.
	defer lease.Close()
	lease.AutoRenew(tries.request.TTL)
	tries.sent++
	if err = send(ctx, lease); err == nil {
		return false, nil
	}
	lease.state.mu.Lock()
	reported := lease.state.reportedAs
	lease.state.mu.Unlock()
	if reported == nil {
		return false, err
	}
	return tries.obey(ctx, lease, reported, err) == nil, err
}
