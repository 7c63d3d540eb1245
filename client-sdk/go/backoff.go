package keybroker

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is exponential with full jitter: a fleet that failed together must not return together.
type backoff struct{ first, longest time.Duration }

// ceiling of the wait before retry number retry; 0 is the first.
func (b backoff) ceiling(retry int) time.Duration {
	wait := b.first
	for range retry {
		if wait >= b.longest {
			break
		}
		wait *= 2
	}
	return min(wait, b.longest)
}

func (b backoff) wait(retry int) time.Duration {
	return time.Duration(rand.Int64N(int64(b.ceiling(retry)) + 1))
}

// spread makes a wait that the broker named longer by up to a tenth, at most a second: never shorter, since an
// earlier try is known to be refused.
func spread(named time.Duration) time.Duration {
	return named + time.Duration(rand.Int64N(int64(min(named/10, time.Second))+1))
}

// pause waits, or until the context ends.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
