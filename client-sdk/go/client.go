package keybroker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// afterCancel is how long an Acquire goes on after its caller gave up, so that a lease already on its way is received
// and given back rather than charged until it expires.
const afterCancel = time.Second

// Client is a connection to a broker, or to one of several. Make one for each process and share it: it is safe for
// any number of goroutines, which share one connection for each address.
type Client struct {
	settings *settings
	rpc      *rpc
	reporter *reporter
	// base ends when the client is closed, and with it all that runs in the background but reports.
	base context.Context
	end  context.CancelFunc
	// endReports ends the delivery of reports.
	endReports context.CancelFunc

	mu     sync.Mutex
	closed bool
	tasks  sync.WaitGroup
	// open holds the leases that are not reported yet.
	open map[*leaseState]struct{}
}

// New makes a client of the broker at addresses: "host:port", or several with commas between, of which the first that
// answers serves. It connects at the first call, so a broker that is down shows in [Client.Acquire].
//
// With "https://host:port" the connection is encrypted, as with any of the options for TLS.
//
// It fails with an [InvalidArgumentError] if an address or an option cannot be used.
func New(addresses string, options ...Option) (*Client, error) {
	settings := defaults()
	for _, option := range options {
		option(&settings)
	}
	rpc, err := dial(addresses, &settings)
	if err != nil {
		return nil, err
	}
	client := &Client{settings: &settings, rpc: rpc, open: map[*leaseState]struct{}{}}
	client.base, client.end = context.WithCancel(context.Background())
	reports, endReports := context.WithCancel(context.Background())
	client.endReports = endReports
	client.reporter = &reporter{rpc: rpc, settings: &settings, base: reports}
	return client, nil
}

// Acquire takes a lease. Close it, best by defer.
//
// It is asked again only where certainly nothing was handed out, and then once at each address: an answer that was
// lost may have been a lease. When ctx ends first, a lease that still comes is given back.
//
// Errors: [RefusedError] with the exact time to wait, [NeverPossibleError], [NoUsableKeyError], [UnknownPoolError],
// [InvalidArgumentError], [UnavailableError], [DeadlineExceededError], [UnauthenticatedError], [NotPermittedError]; or one that wraps
// [context.Canceled].
func (c *Client) Acquire(ctx context.Context, request Request) (*Lease, error) {
	started := time.Now()
	if ctx.Err() != nil {
		return nil, contextError(ctx, "a lease", c.rpc.addresses(), started)
	}
	if !c.begin() {
		return nil, errClosed
	}
	within := max(request.Wait, 0) + c.settings.callTimeout
	call, cancel := c.detached(ctx)
	type answer struct {
		lease *Lease
		err   error
	}
	answers := make(chan answer)
	// In a goroutine of its own, because a caller that stops waiting must not lose a lease.
	go func() {
		defer c.tasks.Done()
		defer cancel()
		lease, err := c.take(call, request, within)
		select {
		case answers <- answer{lease, err}:
		case <-ctx.Done():
			if lease != nil {
				lease.Close()
			}
		}
	}()
	select {
	case answer := <-answers:
		return answer.lease, ownDeadline(ctx, answer.err)
	case <-ctx.Done():
		time.AfterFunc(afterCancel, cancel)
		return nil, contextError(ctx, "a lease", c.rpc.addresses(), started)
	}
}

// ownDeadline says of a call that was too late whether it was the caller's deadline that passed. gRPC may notice that a
// moment before the context does.
func ownDeadline(ctx context.Context, err error) error {
	late, ok := errors.AsType[*DeadlineExceededError](err)
	if deadline, set := ctx.Deadline(); ok && set && time.Until(deadline) < 10*time.Millisecond {
		late.err = context.DeadlineExceeded
	}
	return err
}

var errClosed = &OtherError{Message: "this client is closed: make a new one"}

// begin counts a task in, unless the client is closed.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.tasks.Add(1)
	return true
}

// detached is a context with the values and the deadline of ctx that does not end when ctx is cancelled, but when the
// client is closed.
func (c *Client) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	end := cancel
	if deadline, ok := ctx.Deadline(); ok {
		var endTimer context.CancelFunc
		call, endTimer = context.WithDeadline(call, deadline)
		end = func() { endTimer(); cancel() }
	}
	stop := context.AfterFunc(c.base, end)
	return call, func() { stop(); end() }
}

func (c *Client) take(ctx context.Context, request Request, within time.Duration) (*Lease, error) {
	response, askedAt, err := c.rpc.acquire(ctx, request.toProto(), within)
	if err != nil {
		return nil, err
	}
	granted := response.GetLease()
	if granted == nil {
		return nil, &OtherError{Message: "the broker's answer breaks the contract, use matching versions: AcquireResponse holds no lease"}
	}
	return newLease(c, granted, askedAt, context.WithoutCancel(ctx)), nil
}

// String names the addresses of the broker, and no secret.
func (c *Client) String() string { return "keybroker.Client{" + c.rpc.addresses() + "}" }

// GoString is String.
func (c *Client) GoString() string { return c.String() }

// Flush waits until every report is delivered, those in the background included, or until ctx ends: then it fails with
// an [UndeliveredError], and delivery goes on.
func (c *Client) Flush(ctx context.Context) error { return c.reporter.flush(ctx) }

// Unreported is how many reports are not delivered yet.
func (c *Client) Unreported() int {
	outstanding, _ := c.reporter.counts()
	return outstanding
}

// ReportsLost is how many reports were given up since the start: the queue was full, or no broker answered for longer
// than [WithReportPatience]. Their leases stay charged until they expire.
func (c *Client) ReportsLost() uint64 {
	_, lost := c.reporter.counts()
	return lost
}

// Close refuses new leases, reports those that are still open as [Lease.Close] does, delivers all reports
// ([WithCloseTimeout] bounds the wait), and ends the connections. Call it before the program ends.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), c.settings.closeTimeout)
	defer cancel()
	err := c.settle(ctx)
	c.endReports()
	return errors.Join(err, c.rpc.close())
}

// settle waits for the calls under way, which may still bring leases to be given back, and then for all reports.
func (c *Client) settle(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		c.tasks.Wait()
		close(done)
	}()
	timer := time.NewTimer(afterCancel)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
	c.end()
	<-done
	for _, state := range c.openLeases() {
		state.abandon("the client was closed")
	}
	return c.reporter.flush(ctx)
}

func (c *Client) openLeases() []*leaseState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.open))
}

func (c *Client) opened(state *leaseState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[state] = struct{}{}
}

func (c *Client) reported(state *leaseState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, state)
}
