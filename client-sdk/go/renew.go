package keybroker

import (
	"context"
	"sync"
	"time"
)

// shortestPause is the least time between two renewals, also when little time remains.
const shortestPause = 50 * time.Millisecond

// renewal renews a lease each time half of its remaining time has passed. Between renewals it is a timer, no goroutine.
type renewal struct {
	state *leaseState
	ttl   time.Duration
	ctx   context.Context
	end   context.CancelFunc

	mu    sync.Mutex
	timer *time.Timer
}

// AutoRenew renews the lease to ttl (1 second to 1 hour; 0: to what it lasts now) each time half of its remaining time
// has passed, until it is reported or stop is called: for long answers.
func (l *Lease) AutoRenew(ttl time.Duration) (stop func()) {
	state := l.state
	if ttl <= 0 {
		ttl = state.remaining()
	}
	made := &renewal{state: state, ttl: max(ttl, time.Second)}
	made.ctx, made.end = context.WithCancel(joined{Context: state.client.base, values: state.trace})
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.renewal != nil {
		state.renewal.stop()
	}
	if state.reported {
		made.end()
		return func() {}
	}
	state.renewal = made
	made.schedule(time.Until(state.expiresAt))
	return made.stop
}

func (r *renewal) schedule(remaining time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	r.timer = time.AfterFunc(max(remaining/2, shortestPause), r.run)
}

func (r *renewal) run() {
	if !r.state.client.begin() {
		return
	}
	defer r.state.client.tasks.Done()
	before := r.state.remaining()
	remaining, err := r.state.renew(r.ctx, r.ttl)
	if r.ctx.Err() != nil {
		return
	}
	if err != nil {
		// After a failure the pauses halve with what remains; once that is over, only the broker knows whether the
		// lease still lives, so the last word is its answer.
		if known, ok := asError(err); !ok || !known.Retryable() || before == 0 {
			r.state.client.settings.logger.Warn("keybroker: a lease is no longer renewed", "lease", r.state.id, "error", err)
			return
		}
		remaining = r.state.remaining()
	}
	r.schedule(remaining)
}

func (r *renewal) stop() {
	r.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
}
