package keybroker_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"go.opentelemetry.io/otel/trace"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
	pb "github.com/keybroker/keybroker/client-sdk/go/internal/keybrokerpb"
	"github.com/keybroker/keybroker/client-sdk/go/internal/stage"
)

func countDials(mu *sync.Mutex, count *int) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		mu.Lock()
		*count++
		mu.Unlock()
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	})
}

func TestAddressesThatCannotBeUsedSayWhy(t *testing.T) {
	for address, word := range map[string]string{
		"":                       "host:port",
		" , ":                    "host:port",
		"localhost":              "port",
		":50051":                 "host",
		"redis://127.0.0.1:6379": "scheme",
		"127.0.0.1:broker":       "port",
		"127.0.0.1:0":            "port",
		"http://two words:1":     "host",
	} {
		_, err := keybroker.New(address)
		if !errors.Is(err, keybroker.ErrInvalidArgument) || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), "address") {
			t.Errorf("%q gave %v", address, err)
		}
	}
	for _, address := range []string{"127.0.0.1:50051", "http://broker.internal:50051", "[::1]:50051", "https://broker:443", "a:1,b:2", "unix:/tmp/keybroker.sock"} {
		if client, err := keybroker.New(address); err != nil {
			t.Errorf("%q gave %v", address, err)
		} else {
			client.Close()
		}
	}
}

func TestOptionsThatCannotBeUsedSayWhy(t *testing.T) {
	for word, option := range map[string]keybroker.Option{
		"WithCAFile":            keybroker.WithCAFile("/nowhere/ca.pem"),
		"WithClientCertificate": keybroker.WithClientCertificate("/nowhere/cert.pem", "/nowhere/key.pem"),
		"WithPlaintextToken":    keybroker.WithToken("fake-token"),
	} {
		_, err := keybroker.New("broker.example:50051", option)
		if !errors.Is(err, keybroker.ErrInvalidArgument) || !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "fake-token") {
			t.Errorf("%s: %v", word, err)
		}
	}
	client, err := keybroker.New("broker.example:50051", keybroker.WithToken("fake-token"), keybroker.WithPlaintextToken())
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
}

func TestABrokerThatIsDownIsNamed(t *testing.T) {
	address := closedPort(t)
	client := connect(t, address)
	started := time.Now()
	_, err := client.Acquire(t.Context(), keybroker.Request{Model: model})
	unavailable, ok := errors.AsType[*keybroker.UnavailableError](err)
	if !ok || unavailable.AnswerLost || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("it gave %v", err)
	}
	if took := time.Since(started); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAHostThatDoesNotExistIsNamed(t *testing.T) {
	client := connect(t, "broker.invalid:50051")
	_, err := client.Acquire(t.Context(), keybroker.Request{Model: model})
	if !errors.Is(err, keybroker.ErrUnavailable) || !strings.Contains(err.Error(), "broker.invalid:50051") {
		t.Errorf("it gave %v", err)
	}
}

func TestUnknownPoolsAndFieldsAreNamed(t *testing.T) {
	broker := stage.StartBroker(t, stage.Config(1, "requests_per_minute = 10", ""), "")
	client := connect(t, broker.Address)
	for word, try := range map[string]struct {
		request keybroker.Request
		is      error
	}{
		"nowhere": {keybroker.Request{Model: model, Pool: "nowhere"}, keybroker.ErrUnknownPool},
		"model":   {keybroker.Request{}, keybroker.ErrInvalidArgument},
		"ttl":     {keybroker.Request{Model: model, TTL: 2 * time.Hour}, keybroker.ErrInvalidArgument},
		"larger":  {keybroker.Request{Model: model, Permits: 900}, keybroker.ErrNeverPossible},
		"usable":  {keybroker.Request{Model: model, Project: "project-9999"}, keybroker.ErrNoUsableKey},
	} {
		_, err := client.Acquire(t.Context(), try.request)
		if !errors.Is(err, try.is) {
			t.Errorf("%s: %v", word, err)
		}
		if known, ok := errors.AsType[keybroker.Error](err); !ok || known.Retryable() {
			t.Errorf("%s: %v", word, err)
		}
		if word != "larger" && !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
	}
}

func TestARefusalSaysWhenAndWhat(t *testing.T) {
	broker := stage.StartBroker(t, stage.Config(1, "requests_per_minute = 1", ""), "")
	client := connect(t, broker.Address)
	lease, err := client.Acquire(t.Context(), keybroker.Request{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	_, err = client.Acquire(t.Context(), keybroker.Request{Model: model})
	refused, ok := errors.AsType[*keybroker.RefusedError](err)
	if !ok || !refused.Retryable() || refused.Reason != "QUOTA_EXHAUSTED" || len(refused.Quota) == 0 || time.Until(refused.RetryAt) <= 0 {
		t.Fatalf("it gave %v", err)
	}
	if refused.RetryAfter < 30*time.Second || refused.RetryAfter > 2*time.Minute || !strings.Contains(err.Error(), "project-0000") {
		t.Errorf("it gave %v", err)
	}
}

func TestADeadlineThatIsTooShortIsNamed(t *testing.T) {
	silent := startServer(t, &server{acquire: func(ctx context.Context) (*pb.AcquireResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	client := connect(t, silent, keybroker.WithCallTimeout(300*time.Millisecond))
	_, err := client.Acquire(t.Context(), keybroker.Request{Model: model})
	if !errors.Is(err, keybroker.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), silent) {
		t.Errorf("the call's own timeout gave %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = client.Acquire(ctx, keybroker.Request{Model: model})
	if !errors.Is(err, keybroker.ErrDeadlineExceeded) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), silent) {
		t.Errorf("the caller's deadline gave %v", err)
	}
	expired, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	if _, err = client.Acquire(expired, keybroker.Request{Model: model}); !errors.Is(err, keybroker.ErrDeadlineExceeded) {
		t.Errorf("a deadline in the past gave %v", err)
	}
}

func TestAWrongTokenIsNamed(t *testing.T) {
	address := startServer(t, &server{token: "fake-token-right"})
	wrong := connect(t, address, keybroker.WithToken("fake-token-wrong"))
	_, err := wrong.Acquire(t.Context(), keybroker.Request{Model: model})
	if !errors.Is(err, keybroker.ErrUnauthenticated) || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "WithToken") || strings.Contains(err.Error(), "fake-token-wrong") {
		t.Errorf("a wrong token gave %v", err)
	}
	right := connect(t, address, keybroker.WithToken("fake-token-right"))
	lease, err := right.Acquire(t.Context(), keybroker.Request{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	lease.Close()
	flush(t, right)
}

func TestTheTraceIsPassedOn(t *testing.T) {
	seen := &server{}
	client := connect(t, startServer(t, seen))
	id, _ := trace.TraceIDFromHex("0af7651916cd43dd8448eb211c80319c")
	span, _ := trace.SpanIDFromHex("b7ad6b7169203331")
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.FlagsSampled}))
	lease, err := client.Acquire(ctx, keybroker.Request{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lease.NotSent(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for _, call := range []string{"acquire", "report"} {
		if got := seen.traces[call]; got != "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" {
			t.Errorf("%s carried %q", call, got)
		}
	}
}

func TestAnAcquireWhoseAnswerIsLostIsNotAskedAgain(t *testing.T) {
	first, second := &server{}, &server{}
	first.acquire = func(context.Context) (*pb.AcquireResponse, error) {
		return nil, status.Error(codes.Unavailable, "the connection broke")
	}
	client := connect(t, startServer(t, first)+","+startServer(t, second))
	_, err := client.Acquire(t.Context(), keybroker.Request{Model: model})
	unavailable, ok := errors.AsType[*keybroker.UnavailableError](err)
	if !ok || !unavailable.AnswerLost || second.calls("acquire") != 0 {
		t.Errorf("it gave %v after %d calls of the second", err, second.calls("acquire"))
	}
}

// server is a broker of few words.
type server struct {
	pb.UnimplementedKeyBrokerServer
	token   string
	acquire func(context.Context) (*pb.AcquireResponse, error)
	asked   func(*pb.AcquireRequest)
	report  func(*pb.ReportRequest) (*pb.ReportResponse, error)

	mu      sync.Mutex
	counts  map[string]int
	traces  map[string]string
	reports []*pb.LeaseReport
}

func startServer(t testing.TB, service *server) string {
	t.Helper()
	address, stop := serve(service)
	t.Cleanup(stop)
	return address
}

func serve(service *server, options ...grpc.ServerOption) (address string, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	serving := grpc.NewServer(options...)
	pb.RegisterKeyBrokerServer(serving, service)
	go serving.Serve(listener)
	return listener.Addr().String(), serving.Stop
}

func (s *server) calls(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[name]
}

func (s *server) note(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts, s.traces = map[string]int{}, map[string]string{}
	}
	s.counts[name]++
	got, _ := metadata.FromIncomingContext(ctx)
	if trace := got.Get("traceparent"); len(trace) == 1 {
		s.traces[name] = trace[0]
	}
	if token := got.Get("authorization"); s.token != "" && (len(token) != 1 || token[0] != "Bearer "+s.token) {
		return status.Error(codes.Unauthenticated, "the token is not known")
	}
	return nil
}

func (s *server) Acquire(ctx context.Context, request *pb.AcquireRequest) (*pb.AcquireResponse, error) {
	if err := s.note(ctx, "acquire"); err != nil {
		return nil, err
	}
	if s.asked != nil {
		s.asked(request)
	}
	if s.acquire != nil {
		return s.acquire(ctx)
	}
	return &pb.AcquireResponse{Lease: grant()}, nil
}

func (s *server) Report(ctx context.Context, request *pb.ReportRequest) (*pb.ReportResponse, error) {
	if err := s.note(ctx, "report"); err != nil {
		return nil, err
	}
	if s.report != nil {
		return s.report(request)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, request.GetReports()...)
	response := &pb.ReportResponse{}
	for _, report := range request.GetReports() {
		response.Results = append(response.Results, &pb.ReportResult{
			LeaseId: report.GetLeaseId(), State: pb.SettleState_SETTLED, Advice: &pb.Advice{Action: pb.Advice_DONE},
		})
	}
	return response, nil
}

func grant() *pb.Lease {
	return &pb.Lease{
		LeaseId: "lease-1", KeyId: "key-1", ApiKey: "fake-key-1", Project: "project-1", QuotaModel: model, Permits: 1,
		SendWithin: durationpb.New(time.Second), ExpiresIn: durationpb.New(time.Minute),
	}
}
