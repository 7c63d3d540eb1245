// Overhead compares calls of Google's official SDK without and with a leased key, and prints one line of JSON about it.
// Direct and leased calls take turns, so that both meet the same machine.
//
//	go run ./examples/overhead --broker 127.0.0.1:50051 --gemini http://127.0.0.1:8080 --key KEY --calls 200
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"google.golang.org/genai"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
	"github.com/keybroker/keybroker/client-sdk/go/keybrokergenai"
)

type times struct {
	Calls  int     `json:"calls"`
	Direct float64 `json:"direct_p50_ms"`
	Leased float64 `json:"leased_p50_ms"`
	RPC    float64 `json:"rpc_p50_ms"`
}

func main() {
	broker := flag.String("broker", "127.0.0.1:50051", "addresses of the broker, with commas between")
	gemini := flag.String("gemini", "", "base URL of the Gemini API, if not Google's")
	key := flag.String("key", "fake-key-0000", "key of the direct calls")
	model := flag.String("model", "gemini-2.5-flash", "model to ask")
	calls := flag.Int("calls", 200, "how many calls of each sort")
	flag.IntVar(calls, "n", 200, "the same")
	flag.Parse()
	measured, err := measure(*broker, *gemini, *key, *model, *calls)
	if err != nil {
		fmt.Fprintln(os.Stderr, "overhead:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(measured)
}

func measure(address, gemini, key, model string, calls int) (*times, error) {
	ctx := context.Background()
	broker, err := keybroker.New(address)
	if err != nil {
		return nil, err
	}
	defer broker.Close()
	place := genai.HTTPOptions{BaseURL: gemini}
	leasing, err := keybrokergenai.NewClient(ctx, &keybroker.Transport{Client: broker}, &genai.ClientConfig{HTTPOptions: place})
	if err != nil {
		return nil, err
	}
	direct, err := genai.NewClient(ctx, &genai.ClientConfig{
		APIKey: key, Backend: genai.BackendGeminiAPI, HTTPOptions: place, HTTPClient: &http.Client{},
	})
	if err != nil {
		return nil, err
	}
	ask := func(client *genai.Client) error {
		_, err := client.Models.GenerateContent(ctx, model, genai.Text("How long does this take?"), nil)
		return err
	}
	trips := func() error {
		lease, err := broker.Acquire(ctx, keybroker.Request{Model: model, InputTokens: 20, Wait: time.Minute})
		if err != nil {
			return err
		}
		defer lease.Close()
		if _, err := lease.BeginSend(); err != nil {
			return err
		}
		_, err = lease.Success(ctx, keybroker.Usage{InputTokens: keybroker.Tokens(7)})
		return err
	}
	kinds := []func() error{
		func() error { return ask(direct) },
		func() error { return ask(leasing) },
		trips,
	}
	took := make([][]float64, len(kinds))
	// The first calls connect, and are not counted.
	for number := range calls + 5 {
		for at, do := range kinds {
			started := time.Now()
			if err := do(); err != nil {
				return nil, err
			}
			if number >= 5 {
				took[at] = append(took[at], float64(time.Since(started).Microseconds())/1000)
			}
		}
	}
	median := func(sample []float64) float64 {
		slices.Sort(sample)
		return sample[len(sample)/2]
	}
	return &times{calls, median(took[0]), median(took[1]), median(took[2])}, broker.Close()
}
