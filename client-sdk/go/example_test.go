package keybroker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
	pb "github.com/keybroker/keybroker/client-sdk/go/internal/keybrokerpb"
)

// brokerForExample is a stand-in for a broker, so that the examples run by themselves.
func brokerForExample() (address string, stop func()) { return serve(&server{}) }

// geminiForExample is a stand-in for the Gemini API.
func geminiForExample() (url string, stop func()) {
	serving := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"candidates":[{"content":{"parts":[{"text":"Hello!"}]},"finishReason":"STOP"}]}`)
	}))
	return serving.URL, serving.Close
}

// A lease is taken, used for one request, and reported.
func Example() {
	address, stop := brokerForExample()
	defer stop()
	ctx := context.Background()

	client, err := keybroker.New(address)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	lease, err := client.Acquire(ctx, keybroker.Request{Model: "gemini-2.5-flash", InputTokens: 400})
	if err != nil {
		log.Fatal(err)
	}
	defer lease.Close() // Reports what was not reported, also after a panic.
	key, err := lease.BeginSend()
	if err != nil {
		log.Fatal(err)
	}
	_ = key // Send one request with it, in the header x-goog-api-key.
	advice, err := lease.Success(ctx, keybroker.Usage{InputTokens: keybroker.Tokens(12)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(advice.Action)
	// Output: DONE
}

// Any HTTP client can send its requests to Gemini with leased keys.
func ExampleTransport() {
	address, stop := brokerForExample()
	defer stop()
	gemini, stopGemini := geminiForExample()
	defer stopGemini()

	broker, err := keybroker.New(address)
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	client := &http.Client{Transport: &keybroker.Transport{Client: broker}}
	defer client.CloseIdleConnections()

	response, err := client.Post(gemini+"/v1beta/models/gemini-2.5-flash:generateContent", "application/json",
		strings.NewReader(`{"contents":[{"parts":[{"text":"Hello?"}]}]}`))
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(response.StatusCode, strings.Contains(string(answer), "Hello!"))
	// Output: 200 true
}

// Do asks for leases for as long as the broker advises to try again.
func ExampleClient_Do() {
	address, stop := brokerForExample()
	defer stop()
	client, err := keybroker.New(address)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	request := keybroker.Request{Model: "gemini-2.5-flash", Consumer: "nightly-report"}
	err = client.Do(context.Background(), request, func(ctx context.Context, lease *keybroker.Lease) error {
		key, err := lease.BeginSend()
		if err != nil {
			return err
		}
		fmt.Println("sending with", lease.KeyID(), key != "")
		_, err = lease.Success(ctx, keybroker.Usage{})
		return err
	})
	fmt.Println(err)
	// Output:
	// sending with key-1 true
	// <nil>
}

// A refusal says exactly when a lease can be had.
func ExampleRefusedError() {
	spent := &server{acquire: func(context.Context) (*pb.AcquireResponse, error) {
		state, err := status.New(codes.ResourceExhausted, "every key is at a limit").WithDetails(
			&errdetails.ErrorInfo{Reason: "QUOTA_EXHAUSTED", Domain: "keybroker.v1"},
			&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
		)
		if err != nil {
			return nil, err
		}
		return nil, state.Err()
	}}
	address, stop := serve(spent)
	defer stop()
	client, err := keybroker.New(address)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Acquire(context.Background(), keybroker.Request{Model: "gemini-2.5-flash"})
	if refused, ok := errors.AsType[*keybroker.RefusedError](err); ok {
		fmt.Println(refused.Reason, refused.RetryAfter)
	}
	// Output: QUOTA_EXHAUSTED 1.5s
}
