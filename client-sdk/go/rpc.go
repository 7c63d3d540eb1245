package keybroker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	pb "github.com/keybroker/keybroker/client-sdk/go/internal/keybrokerpb"
)

// reconnectGrace is how long a connection that failed of late gets to come back before its call fails.
const reconnectGrace = 100 * time.Millisecond

// rpc makes the calls of the contract, each with a deadline and a typed error, to the first address that answers.
type rpc struct {
	settings  *settings
	endpoints []*endpoint
	// preferred is the index of the address that answered last.
	preferred atomic.Int64
}

// endpoint is one connection, shared by all tasks.
type endpoint struct {
	address string
	conn    *grpc.ClientConn
	client  pb.KeyBrokerClient
	token   string
	// hurried is when a failed connection was last tried at once, in Unix milliseconds.
	hurried atomic.Int64
}

func dial(list string, settings *settings) (*rpc, error) {
	addresses, err := parseAddresses(list)
	if err != nil {
		return nil, err
	}
	made := &rpc{settings: settings}
	for _, address := range addresses {
		one, err := dialOne(address, settings)
		if err != nil {
			made.close()
			return nil, err
		}
		made.endpoints = append(made.endpoints, one)
	}
	return made, nil
}

func dialOne(address address, settings *settings) (*endpoint, error) {
	config, err := settings.encryption(address.encrypted)
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if config != nil {
		transport = credentials.NewTLS(config)
	} else if settings.token != "" && !address.loopback && !settings.plaintextToken {
		return nil, invalid("WithToken", fmt.Sprintf("the token would go to %s in plain text: use TLS (WithTLS, WithCAFile or https://), or allow it by WithPlaintextToken", address.shown))
	}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithUserAgent("keybroker-go"),
		// What is tried again, and when, is decided here: an Acquire whose answer was lost may have granted a lease.
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithStatsHandler(sentWatch{}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: settings.connectTimeout,
		}),
	}, settings.dial...)
	conn, err := grpc.NewClient(address.target, options...)
	if err != nil {
		return nil, invalid("address", fmt.Sprintf("%q cannot be used: %v", address.shown, err))
	}
	return &endpoint{address: address.shown, conn: conn, client: pb.NewKeyBrokerClient(conn), token: settings.token}, nil
}

func (r *rpc) close() error {
	var errs []error
	for _, endpoint := range r.endpoints {
		errs = append(errs, endpoint.conn.Close())
	}
	return errors.Join(errs...)
}

func (r *rpc) addresses() string {
	names := make([]string, len(r.endpoints))
	for at, endpoint := range r.endpoints {
		names[at] = endpoint.address
	}
	return strings.Join(names, ", ")
}

// acquire asks the addresses in turn, going on only where certainly nothing was handed out. The instant is the one
// just before the call that was answered, so that send_within ends here no later than at the broker.
func (r *rpc) acquire(ctx context.Context, request *pb.AcquireRequest, within time.Duration) (*pb.AcquireResponse, time.Time, error) {
	var askedAt time.Time
	var response *pb.AcquireResponse
	err := r.each(ctx, nothingHandedOut, "a lease", within, func(ctx context.Context, client pb.KeyBrokerClient) (err error) {
		askedAt = time.Now()
		response, err = client.Acquire(ctx, request)
		return err
	})
	return response, askedAt, err
}

// report may go to any address, and again: it is idempotent.
func (r *rpc) report(ctx context.Context, reports []*pb.LeaseReport) (*pb.ReportResponse, error) {
	var response *pb.ReportResponse
	err := r.each(ctx, isAbsence, "advice", r.settings.callTimeout, func(ctx context.Context, client pb.KeyBrokerClient) (err error) {
		response, err = client.Report(ctx, &pb.ReportRequest{Reports: reports})
		return err
	})
	return response, err
}

func (r *rpc) renew(ctx context.Context, request *pb.RenewRequest) (*pb.RenewResponse, time.Time, error) {
	var askedAt time.Time
	var response *pb.RenewResponse
	err := r.each(ctx, isAbsence, "a renewal", r.settings.callTimeout, func(ctx context.Context, client pb.KeyBrokerClient) (err error) {
		askedAt = time.Now()
		response, err = client.Renew(ctx, request)
		return err
	})
	return response, askedAt, err
}

// isAbsence is whether another address may know better.
func isAbsence(err error) bool {
	known, ok := asError(err)
	return ok && (known.Kind() == KindUnavailable || known.Kind() == KindDeadlineExceeded)
}

// each calls one address after the other, for as long as goOn says that the failure of one does not count.
func (r *rpc) each(ctx context.Context, goOn func(error) bool, what string, within time.Duration, do func(context.Context, pb.KeyBrokerClient) error) error {
	first := int(r.preferred.Load())
	var failed error
	for turn := range r.endpoints {
		at := (first + turn) % len(r.endpoints)
		err := r.endpoints[at].call(ctx, r.settings, what, within, do)
		if err == nil {
			r.preferred.Store(int64(at))
			return nil
		}
		failed = betterReason(failed, err)
		if !goOn(err) || ctx.Err() != nil {
			// A broker that answered at all is one to come back to.
			if !isAbsence(err) {
				r.preferred.Store(int64(at))
			}
			return err
		}
	}
	if unavailable, ok := errors.AsType[*UnavailableError](failed); ok && len(r.endpoints) > 1 {
		all := *unavailable
		all.Message = all.Address + ": " + all.Message
		all.Address = r.addresses()
		return &all
	}
	return failed
}

// betterReason keeps the failure that says more: a broker's own reason before a network's.
func betterReason(earlier, later error) error {
	unavailable, ok := errors.AsType[*UnavailableError](earlier)
	if ok && unavailable.Reason != "" {
		return earlier
	}
	return later
}

func (e *endpoint) call(ctx context.Context, settings *settings, what string, within time.Duration, do func(context.Context, pb.KeyBrokerClient) error) error {
	if err := e.connect(ctx, settings.connectTimeout); err != nil {
		return err
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	mark := &sentMark{}
	ctx = context.WithValue(ctx, sentKey{}, mark)
	err := do(withMetadata(ctx, e.token, settings), e.client)
	if err == nil {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		within = deadline.Sub(started)
	}
	return readStatus(err, asked{address: e.address, what: what, within: within, sent: mark.sent.Load()})
}

// connect waits until there is a connection, or until it is known that there is none for now. In the latter case the
// call that follows fails at once, and says why.
func (e *endpoint) connect(ctx context.Context, timeout time.Duration) error {
	state := e.conn.GetState()
	if state == connectivity.Ready {
		return nil
	}
	if state == connectivity.TransientFailure {
		// It may have been away for a while, and be back since.
		now, last := time.Now().UnixMilli(), e.hurried.Load()
		if now-last >= reconnectGrace.Milliseconds() && e.hurried.CompareAndSwap(last, now) {
			e.conn.ResetConnectBackoff()
		}
		timeout = min(timeout, reconnectGrace)
	}
	started := time.Now()
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	e.conn.Connect()
	for failedBefore := state == connectivity.TransientFailure; ; state = e.conn.GetState() {
		switch {
		case state == connectivity.Ready || state == connectivity.Shutdown:
			return nil
		case state == connectivity.TransientFailure && !failedBefore:
			return nil
		case state == connectivity.Idle:
			e.conn.Connect()
		}
		if !e.conn.WaitForStateChange(waiting, state) {
			break
		}
	}
	if ctx.Err() != nil {
		return contextError(ctx, "a connection", e.address, started)
	}
	if e.conn.GetState() == connectivity.TransientFailure {
		return nil
	}
	return &UnavailableError{Address: e.address, Message: fmt.Sprintf("no connection within %v", timeout)}
}

// withMetadata adds the token and the trace context.
func withMetadata(ctx context.Context, token string, settings *settings) context.Context {
	carrier := metadataCarrier{}
	if settings.propagator != nil {
		settings.propagator.Inject(ctx, carrier)
	}
	if token != "" {
		carrier["authorization"] = []string{"Bearer " + token}
	}
	if len(carrier) == 0 {
		return ctx
	}
	outgoing, _ := metadata.FromOutgoingContext(ctx)
	return metadata.NewOutgoingContext(ctx, metadata.Join(outgoing, metadata.MD(carrier)))
}

type metadataCarrier metadata.MD

func (m metadataCarrier) Get(name string) string {
	if values := metadata.MD(m).Get(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

func (m metadataCarrier) Set(name, value string) { metadata.MD(m).Set(name, value) }

func (m metadataCarrier) Keys() []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	return names
}

type sentKey struct{}

type sentMark struct{ sent atomic.Bool }

// sentWatch notes whether a call went out: of one that did not, the broker cannot have seen anything.
type sentWatch struct{}

func (sentWatch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (sentWatch) HandleRPC(ctx context.Context, event stats.RPCStats) {
	mark, ok := ctx.Value(sentKey{}).(*sentMark)
	if !ok {
		return
	}
	switch event.(type) {
	case *stats.Begin:
		// gRPC begins anew only where the server certainly did not process what was sent before.
		mark.sent.Store(false)
	case *stats.OutHeader:
		mark.sent.Store(true)
	}
}

func (sentWatch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (sentWatch) HandleConn(context.Context, stats.ConnStats) {}
