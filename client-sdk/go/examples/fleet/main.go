// Fleet keeps many workers busy through Google's official SDK for a while, and prints one line of JSON about it.
//
//	go run ./examples/fleet --broker 127.0.0.1:50051 --workers 200 --seconds 60
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/genai"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
	"github.com/keybroker/keybroker/client-sdk/go/keybrokergenai"
)

type tally struct {
	mu     sync.Mutex
	Calls  int            `json:"calls"`
	OK     int            `json:"ok"`
	Failed map[string]int `json:"failed"`
	P50    float64        `json:"p50_ms"`
	P99    float64        `json:"p99_ms"`
	took   []float64
}

func main() {
	broker := flag.String("broker", "127.0.0.1:50051", "addresses of the broker, with commas between")
	gemini := flag.String("gemini", "", "base URL of the Gemini API, if not Google's")
	seconds := flag.Int("seconds", 60, "how long to ask")
	workers := flag.Int("workers", 200, "how many workers ask at the same time")
	model := flag.String("model", "gemini-2.5-flash", "model to ask")
	flag.Parse()
	tally := &tally{Failed: map[string]int{}}
	err := run(tally, *broker, *gemini, *model, *workers, time.Duration(*seconds)*time.Second)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(tally)
}

func run(tally *tally, address, gemini, model string, workers int, lasts time.Duration) error {
	broker, err := keybroker.New(address)
	if err != nil {
		return err
	}
	defer broker.Close()
	ctx := context.Background()
	client, err := keybrokergenai.NewClient(ctx, &keybroker.Transport{Client: broker, Deadline: lasts}, &genai.ClientConfig{
		HTTPOptions: genai.HTTPOptions{BaseURL: gemini},
	})
	if err != nil {
		return err
	}
	// Calls end with the time, those that still wait for a key among them.
	ctx, cancel := context.WithTimeout(ctx, lasts)
	defer cancel()
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			for number := 0; ctx.Err() == nil; number++ {
				prompt := fmt.Sprintf("worker %d, question %d", worker, number)
				started := time.Now()
				_, err := client.Models.GenerateContent(ctx, model, genai.Text(prompt), nil)
				if err != nil && ctx.Err() != nil {
					return
				}
				tally.add(err, time.Since(started))
				if refused, ok := errors.AsType[*keybroker.RefusedError](err); ok {
					// Before that nothing is to be had.
					select {
					case <-time.After(refused.RetryAfter):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	all.Wait()
	tally.finish()
	return broker.Close()
}

func (t *tally) add(err error, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Calls++
	if err != nil {
		t.Failed[kind(err)]++
		return
	}
	t.OK++
	t.took = append(t.took, float64(took.Microseconds())/1000)
}

func (t *tally) finish() {
	slices.Sort(t.took)
	if count := len(t.took); count > 0 {
		t.P50, t.P99 = t.took[count/2], t.took[count*99/100]
	}
}

func kind(err error) string {
	if known, ok := errors.AsType[keybroker.Error](err); ok {
		return string(known.Kind())
	}
	if upstream, ok := errors.AsType[genai.APIError](err); ok {
		return fmt.Sprintf("http_%d", upstream.Code)
	}
	return "other"
}
