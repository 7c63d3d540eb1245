package keybroker

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/keybroker/keybroker/client-sdk/go/internal/keybrokerpb"
)

// Lease is the right to send one request (or [Lease.Permits] of them) with one key.
//
// Ask for the key with [Lease.BeginSend], send, and report with one of [Lease.Success], [Lease.HTTPError],
// [Lease.TransportError] and [Lease.NotSent]. Close it by defer, which reports what was not reported: as not sent if
// BeginSend gave no key, else as cancelled. A lease that is forgotten altogether reports itself the same way once the
// garbage collector finds it.
//
// It is safe for several goroutines; the first report counts.
type Lease struct {
	state   *leaseState
	cleanup runtime.Cleanup
}

// leaseState outlives its Lease where a renewal or a clean-up needs it.
type leaseState struct {
	client     *Client
	id         string
	keyID      string
	key        string
	project    string
	quotaModel string
	permits    int
	overPlan   bool
	sendBy     time.Time
	trace      context.Context

	mu        sync.Mutex
	sentAt    time.Time
	expiresAt time.Time
	reported  bool
	// reportedAs is the report, for its advice; nil until then.
	reportedAs *item
	renewal    *renewal
}

func newLease(client *Client, granted *pb.Lease, askedAt time.Time, trace context.Context) *Lease {
	state := &leaseState{
		client: client, id: granted.GetLeaseId(), keyID: granted.GetKeyId(), key: granted.GetApiKey(),
		project: granted.GetProject(), quotaModel: granted.GetQuotaModel(),
		permits: int(granted.GetPermits()), overPlan: granted.GetOverPlan(), trace: trace,
		// An absent window is an empty one: a lease that does not say until when it may be used must not be used.
		sendBy:    askedAt.Add(granted.GetSendWithin().AsDuration()),
		expiresAt: askedAt.Add(granted.GetExpiresIn().AsDuration()),
	}
	client.opened(state)
	lease := &Lease{state: state}
	lease.cleanup = runtime.AddCleanup(lease, func(state *leaseState) {
		state.abandon("the lease was forgotten without a report")
	}, state)
	return lease
}

// BeginSend marks the request as sent and gives its key, if there is still time to send it.
//
// This is the only way to the key. Call it right before sending, once for each request of the lease, and put the key
// into the header x-goog-api-key, never into a URL.
//
// It fails with a [SendWindowPassedError] once send_within, counted by a monotonic clock from the sending of Acquire,
// has passed, and with a [LeaseEndedError] after a report.
func (l *Lease) BeginSend() (string, error) {
	defer runtime.KeepAlive(l)
	return l.state.beginSend()
}

func (s *leaseState) beginSend() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reported {
		return "", &LeaseEndedError{"it was reported already"}
	}
	now := time.Now()
	if late := now.Sub(s.sendBy); late > 0 {
		return "", &SendWindowPassedError{late}
	}
	if s.sentAt.IsZero() {
		s.sentAt = now
	}
	return s.key, nil
}

// unsend takes a BeginSend back, where nothing was sent after all.
func (l *Lease) unsend() {
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	l.state.sentAt = time.Time{}
}

// ID is the id of the lease.
func (l *Lease) ID() string { return l.state.id }

// KeyID is the id of the key, fit for logs.
func (l *Lease) KeyID() string { return l.state.keyID }

// Project is the project that owns the key.
func (l *Lease) Project() string { return l.state.project }

// QuotaModel is the family name under which Google counts the model.
func (l *Lease) QuotaModel() string { return l.state.quotaModel }

// Permits is how many requests may be sent.
func (l *Lease) Permits() int { return l.state.permits }

// OverPlan is whether the request is over the soft plan of its consumer. It may be sent all the same.
func (l *Lease) OverPlan() bool { return l.state.overPlan }

// SendWithin is how long there is still to send; 0 once it is too late.
func (l *Lease) SendWithin() time.Duration { return max(time.Until(l.state.sendBy), 0) }

// ExpiresIn is how long until the lease expires; 0 once it has.
func (l *Lease) ExpiresIn() time.Duration { return l.state.remaining() }

func (s *leaseState) remaining() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(time.Until(s.expiresAt), 0)
}

// Success reports that Gemini answered 2xx without an error.
//
// The report is on its way when this returns, whatever it returns: a [DeadlineExceededError], or an error that wraps
// [context.Canceled], says that the advice was not waited for any longer while delivery goes on. A [ReportLostError]
// says that it was given up, a [LeaseEndedError] that the lease was reported before.
func (l *Lease) Success(ctx context.Context, usage Usage) (Advice, error) {
	return l.report(ctx, success(usage))
}

// HTTPError reports an error answer: its HTTP status (100 to 599), its body as it came, of which 64 KiB are sent, and
// its Retry-After header; 0 if there was none. Errors: as for [Lease.Success].
func (l *Lease) HTTPError(ctx context.Context, status int, body []byte, retryAfter time.Duration) (Advice, error) {
	return l.report(ctx, httpError(status, redact(body, l.state.key), retryAfter))
}

// TransportError reports that no complete answer came. The message is for logs, and must hold no prompt; usage is what
// is known to have been used. Errors: as for [Lease.Success].
func (l *Lease) TransportError(ctx context.Context, kind TransportKind, message string, usage Usage) (Advice, error) {
	return l.report(ctx, transportError(kind, redactText(message, l.state.key), usage))
}

// NotSent reports that the request was never sent: all of its charge is given back. Errors: as for [Lease.Success].
func (l *Lease) NotSent(ctx context.Context) (Advice, error) {
	return l.report(ctx, notSent())
}

// Close reports the lease if it was not reported: as not sent if BeginSend gave no key, else as cancelled. It never
// waits and never fails; defer it, and a panic is reported too.
func (l *Lease) Close() error {
	l.state.abandon("the lease was closed without a report")
	l.cleanup.Stop()
	return nil
}

// Renew makes the lease expire ttl from now, 1 second to 1 hour; a lease is never shortened. It gives how long the
// lease now lasts.
//
// It fails with a [LeaseEndedError] or an [UnknownLeaseError] if it is too late.
func (l *Lease) Renew(ctx context.Context, ttl time.Duration) (time.Duration, error) {
	defer runtime.KeepAlive(l)
	return l.state.renew(ctx, ttl)
}

func (s *leaseState) renew(ctx context.Context, ttl time.Duration) (time.Duration, error) {
	response, askedAt, err := s.client.rpc.renew(ctx, &pb.RenewRequest{LeaseId: s.id, Ttl: durationpb.New(ttl)})
	if err != nil {
		return 0, err
	}
	// Counted from before the call, as for a lease: the local end is never later than the real one.
	until := askedAt.Add(response.GetExpiresIn().AsDuration())
	s.mu.Lock()
	if until.After(s.expiresAt) {
		s.expiresAt = until
	}
	s.mu.Unlock()
	return s.remaining(), nil
}

func (l *Lease) report(ctx context.Context, outcome *pb.LeaseReport) (Advice, error) {
	reported, err := l.submit(outcome)
	if err != nil {
		return Advice{}, err
	}
	return l.state.await(ctx, reported)
}

// submit puts a report on its way without waiting for the advice.
func (l *Lease) submit(outcome *pb.LeaseReport) (*item, error) {
	reported := l.state.submit(outcome)
	l.cleanup.Stop()
	if reported == nil {
		return nil, &LeaseEndedError{"it was reported already"}
	}
	return reported, nil
}

// await waits for the advice on a report.
func (s *leaseState) await(ctx context.Context, reported *item) (Advice, error) {
	started := time.Now()
	within := s.client.settings.callTimeout
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-reported.done:
		return reported.advice, reported.err
	case <-ctx.Done():
		return Advice{}, contextError(ctx, "advice", s.client.rpc.addresses(), started)
	case <-timer.C:
		return Advice{}, &DeadlineExceededError{Address: s.client.rpc.addresses(), Within: within, What: "advice"}
	}
}

// submit reports once; nil if that was done before.
func (s *leaseState) submit(outcome *pb.LeaseReport) *item {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reported {
		return nil
	}
	s.reported = true
	s.client.reported(s)
	if s.renewal != nil {
		s.renewal.stop()
	}
	outcome.LeaseId = s.id
	if !s.sentAt.IsZero() {
		outcome.Latency = durationpb.New(time.Since(s.sentAt))
	}
	s.reportedAs = s.client.reporter.submit(outcome, s.trace)
	return s.reportedAs
}

func (s *leaseState) abandon(why string) {
	s.mu.Lock()
	sent := !s.sentAt.IsZero()
	s.mu.Unlock()
	if sent {
		s.submit(transportError(Cancelled, why, Usage{}))
	} else {
		s.submit(notSent())
	}
}

// String shows the lease without its key.
func (l *Lease) String() string {
	return fmt.Sprintf("Lease{id: %s, key: %s, project: %s, model: %s}", l.state.id, l.state.keyID, l.state.project, l.state.quotaModel)
}

// GoString is String: with %#v, too, a lease shows no key.
func (l *Lease) GoString() string { return l.String() }

// Format is String for every verb.
func (l *Lease) Format(f fmt.State, _ rune) { fmt.Fprint(f, l.String()) }

// LogValue shows the lease without its key.
func (l *Lease) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("id", l.state.id), slog.String("key", l.state.keyID),
		slog.String("project", l.state.project), slog.String("model", l.state.quotaModel),
	)
}

// MarshalJSON shows the lease without its key.
func (l *Lease) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%q", l.String()), nil }
