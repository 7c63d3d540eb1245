package keybrokergenai_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"google.golang.org/genai"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
	pb "github.com/keybroker/keybroker/client-sdk/go/internal/keybrokerpb"
	"github.com/keybroker/keybroker/client-sdk/go/keybrokergenai"
)

// standIn is a stand-in for a broker, so that the example runs by itself.
type standIn struct {
	pb.UnimplementedKeyBrokerServer
}

func (standIn) Acquire(context.Context, *pb.AcquireRequest) (*pb.AcquireResponse, error) {
	return &pb.AcquireResponse{Lease: &pb.Lease{
		LeaseId: "lease-1", ApiKey: "fake-key-1", SendWithin: durationpb.New(time.Second), ExpiresIn: durationpb.New(time.Minute),
	}}, nil
}

func (standIn) Report(_ context.Context, request *pb.ReportRequest) (*pb.ReportResponse, error) {
	response := &pb.ReportResponse{}
	for range request.GetReports() {
		response.Results = append(response.Results, &pb.ReportResult{Advice: &pb.Advice{Action: pb.Advice_DONE}})
	}
	return response, nil
}

func standIns() (broker, gemini string, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	serving := grpc.NewServer()
	pb.RegisterKeyBrokerServer(serving, standIn{})
	go serving.Serve(listener)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"candidates":[{"content":{"parts":[{"text":"Hello!"}]},"finishReason":"STOP"}]}`)
	}))
	return listener.Addr().String(), web.URL, func() { serving.Stop(); web.Close() }
}

// Google's official SDK, with a key leased for each request.
func ExampleNewClient() {
	address, gemini, stop := standIns()
	defer stop()
	ctx := context.Background()

	broker, err := keybroker.New(address)
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	transport := &keybroker.Transport{Client: broker}
	defer transport.CloseIdleConnections()
	client, err := keybrokergenai.NewClient(ctx, transport, &genai.ClientConfig{
		HTTPOptions: genai.HTTPOptions{BaseURL: gemini}, // Only for this example; by default it is Google's.
	})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text("Hello?"), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Text())
	// Output: Hello!
}
