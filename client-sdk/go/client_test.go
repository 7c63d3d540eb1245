package keybroker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
	"github.com/keybroker/keybroker/client-sdk/go/internal/stage"
)

const model = "gemini-2.5-flash"

func connect(t testing.TB, addresses string, options ...keybroker.Option) *keybroker.Client {
	t.Helper()
	client, err := keybroker.New(addresses, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func flush(t testing.TB, client *keybroker.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := client.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if lost := client.ReportsLost(); lost > 0 {
		t.Fatalf("%d reports were lost", lost)
	}
}

// free is whether the one place in flight is free again, so that the lease before was reported.
func free(t testing.TB, client *keybroker.Client) {
	t.Helper()
	lease, err := client.Acquire(t.Context(), keybroker.Request{Model: model})
	if err != nil {
		t.Fatalf("the lease before was not reported: %v", err)
	}
	if _, err := lease.NotSent(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTheUseOfALease(t *testing.T) {
	broker := stage.StartBroker(t, stage.Config(1, "in_flight = 1", ""), "")
	client := connect(t, broker.Address)
	lease, err := client.Acquire(t.Context(), keybroker.Request{Model: model, InputTokens: 100, Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	if lease.ID() == "" || lease.KeyID() != "key-0000" || lease.Project() != "project-0000" || lease.QuotaModel() != model || lease.Permits() != 1 {
		t.Errorf("the lease is not as granted: %v", lease)
	}
	if lease.SendWithin() <= 0 || lease.ExpiresIn() <= lease.SendWithin() {
		t.Errorf("its times are %v and %v", lease.SendWithin(), lease.ExpiresIn())
	}
	key, err := lease.BeginSend()
	if err != nil || key != "fake-key-0000" {
		t.Fatalf("BeginSend gave %v", err)
	}
	encoded, err := json.Marshal(lease)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("lease", "lease", lease)
	for _, text := range []string{lease.String(), fmt.Sprintf("%v %+v %#v %s %q", lease, lease, lease, lease, lease), string(encoded), logged.String()} {
		if strings.Contains(text, key) || !strings.Contains(text, "project-0000") {
			t.Errorf("%q shows the key, or nothing", text)
		}
	}
	advice, err := lease.Success(t.Context(), keybroker.Usage{InputTokens: keybroker.Tokens(12)})
	if err != nil || advice.Action != keybroker.Done || advice.Settled != keybroker.SettledNow || advice.Signal != "SIGNAL_OK" {
		t.Errorf("the advice is %v: %v", advice, err)
	}
	if _, err := lease.NotSent(t.Context()); !errors.Is(err, keybroker.ErrLeaseEnded) {
		t.Errorf("a second report gave %v", err)
	}
	if _, err := lease.BeginSend(); !errors.Is(err, keybroker.ErrLeaseEnded) {
		t.Errorf("a reported lease gave its key: %v", err)
	}
	free(t, client)
}

func TestALeaseIsReportedHoweverItIsLeft(t *testing.T) {
	broker := stage.StartBroker(t, stage.Config(1, "in_flight = 1", ""), "")
	client := connect(t, broker.Address)
	take := func() *keybroker.Lease {
		lease, err := client.Acquire(t.Context(), keybroker.Request{Model: model})
		if err != nil {
			t.Fatal(err)
		}
		return lease
	}
	ways := map[string]func(){
		"closed": func() { take().Close() },
		"closed after sending": func() {
			lease := take()
			lease.BeginSend()
			lease.Close()
			lease.Close()
		},
		"a panic": func() {
			defer func() { recover() }()
			lease := take()
			defer lease.Close()
			lease.BeginSend()
			panic("the caller's own")
		},
		"a goroutine that ends": func() {
			done := make(chan struct{})
			go func() {
				defer close(done)
				lease := take()
				defer lease.Close()
				runtime.Goexit()
			}()
			<-done
		},
		"forgotten": func() {
			take()
			for range 5 {
				runtime.GC()
				time.Sleep(10 * time.Millisecond)
			}
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			way()
			flush(t, client)
			free(t, client)
		})
	}
}

func TestACancelledAcquireLeavesNothingBehind(t *testing.T) {
	broker := stage.StartBroker(t, stage.Config(1, "in_flight = 1", ""), "")
	client := connect(t, broker.Address)
	held, err := client.Acquire(t.Context(), keybroker.Request{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	started := time.Now()
	_, err = client.Acquire(ctx, keybroker.Request{Model: model, Wait: time.Minute})
	if !errors.Is(err, context.Canceled) || time.Since(started) > 2*time.Second {
		t.Errorf("after %v came %v", time.Since(started), err)
	}
	// It comes within the second in which the call that was left goes on, and is given back.
	held.Close()
	flush(t, client)
	time.Sleep(1200 * time.Millisecond)
	flush(t, client)
	free(t, client)
}

func TestRenewals(t *testing.T) {
	broker := stage.StartBroker(t, stage.Config(1, "in_flight = 1", ""), "")
	client := connect(t, broker.Address)
	lease, err := client.Acquire(t.Context(), keybroker.Request{Model: model, TTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	stop := lease.AutoRenew(0)
	time.Sleep(2500 * time.Millisecond)
	stop()
	if lease.ExpiresIn() == 0 {
		t.Error("the lease was not renewed")
	}
	advice, err := lease.NotSent(t.Context())
	if err != nil || advice.Settled != keybroker.SettledNow {
		t.Errorf("the lease had expired: %v, %v", advice, err)
	}
	if _, err := lease.Renew(t.Context(), time.Minute); !errors.Is(err, keybroker.ErrLeaseEnded) {
		t.Errorf("a reported lease was renewed: %v", err)
	}
}

func TestDoObeysTheAdvice(t *testing.T) {
	broker := stage.StartBroker(t, stage.Config(2, "in_flight = 1", ""), "")
	client := connect(t, broker.Address)
	own := errors.New("the caller's own")
	var keys []string
	err := client.Do(t.Context(), keybroker.Request{Model: model}, func(ctx context.Context, lease *keybroker.Lease) error {
		keys = append(keys, lease.KeyID())
		if _, err := lease.BeginSend(); err != nil {
			return err
		}
		if len(keys) == 1 {
			lease.HTTPError(ctx, 400, []byte(`{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}`), 0)
			return own
		}
		_, err := lease.Success(ctx, keybroker.Usage{})
		return err
	})
	if err != nil || len(keys) != 2 || keys[0] == keys[1] {
		t.Errorf("keys %v: %v", keys, err)
	}
	err = client.Do(t.Context(), keybroker.Request{Model: model}, func(context.Context, *keybroker.Lease) error { return own })
	if err != own {
		t.Errorf("the caller's error became %v", err)
	}
	flush(t, client)
}

func TestManyGoroutinesShareOneConnection(t *testing.T) {
	broker := stage.StartBroker(t, stage.Config(20, "requests_per_minute = 100000", ""), "")
	var mu sync.Mutex
	dialled := 0
	client := connect(t, broker.Address, keybroker.WithDialOptions(countDials(&mu, &dialled)))
	var tasks sync.WaitGroup
	for range 100 {
		tasks.Go(func() {
			for range 10 {
				lease, err := client.Acquire(t.Context(), keybroker.Request{Model: model})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := lease.BeginSend(); err != nil {
					t.Error(err)
				}
				lease.Success(t.Context(), keybroker.Usage{})
			}
		})
	}
	tasks.Wait()
	flush(t, client)
	mu.Lock()
	defer mu.Unlock()
	if dialled != 1 {
		t.Errorf("there were %d connections", dialled)
	}
}

func TestCloseReportsWhatIsOpen(t *testing.T) {
	broker := stage.StartBroker(t, stage.Config(1, "in_flight = 1", ""), "")
	client := connect(t, broker.Address)
	lease, err := client.Acquire(t.Context(), keybroker.Request{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	lease.AutoRenew(0)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Acquire(t.Context(), keybroker.Request{Model: model}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a closed client gave %v", err)
	}
	free(t, connect(t, broker.Address))
}

func TestReportsWaitForABrokerThatIsAway(t *testing.T) {
	config := stage.Config(1, "in_flight = 1", "")
	gone := closedPort(t)
	broker := stage.StartBroker(t, config, gone)
	client := connect(t, broker.Address, keybroker.WithReportPatience(300*time.Millisecond))
	lease, err := client.Acquire(t.Context(), keybroker.Request{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	broker.Kill()
	if _, err = lease.NotSent(t.Context()); !errors.Is(err, keybroker.ErrReportLost) || !strings.Contains(err.Error(), gone) {
		t.Errorf("a report to nobody gave %v", err)
	}
	if client.ReportsLost() != 1 || client.Unreported() != 0 {
		t.Errorf("%d lost, %d unreported", client.ReportsLost(), client.Unreported())
	}
}

func TestTheNextBrokerServes(t *testing.T) {
	broker := stage.StartBroker(t, stage.Config(1, "in_flight = 1", ""), "")
	client := connect(t, closedPort(t)+", "+broker.Address)
	free(t, client)
	both := connect(t, closedPort(t)+","+closedPort(t))
	_, err := both.Acquire(t.Context(), keybroker.Request{Model: model})
	if !errors.Is(err, keybroker.ErrUnavailable) {
		t.Errorf("nobody there gave %v", err)
	}
}

func TestASilentBrokerIsLeftInTime(t *testing.T) {
	// It takes connections and says nothing.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	broker := stage.StartBroker(t, stage.Config(1, "in_flight = 1", ""), "")
	client := connect(t, listener.Addr().String()+","+broker.Address, keybroker.WithConnectTimeout(200*time.Millisecond))
	started := time.Now()
	free(t, client)
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

// closedPort is an address where nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
